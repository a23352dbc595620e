"""Shared fixtures: where the real image sets are, and a store of its own for every test session."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("LEUKNB_DATA", ROOT.parent / "shared" / "data"))


def leuknb(*arguments, cwd, **environment):
    "Run the command line as a user does, in the folder `cwd`."
    return subprocess.run([str(Path(sys.executable).parent / "leuknb"), *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=600)


def leuknb_here(*arguments, cwd, **environment):
    "The same in this process, which has imported everything already."
    from contextlib import chdir, redirect_stderr, redirect_stdout
    from io import StringIO
    from unittest.mock import patch

    from leuknb.cli import main

    out, err = StringIO(), StringIO()
    with chdir(cwd), patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended: main([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def real_data():
    "Return a function: name of a real image set -> its folder; skips the test when the set is absent."

    def find(name: str) -> Path:
        if not (REAL / name).is_dir(): pytest.skip(f"real image set {name!r} is absent")
        return REAL / name

    return find


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory):
    "Keep the feature store and drawn images of the tests apart from the user's own."
    folder = tmp_path_factory.mktemp("leuknb-home")
    before = os.environ.get("LEUKNB_HOME")
    os.environ["LEUKNB_HOME"] = str(folder)
    yield folder
    if before is None: del os.environ["LEUKNB_HOME"]
    else: os.environ["LEUKNB_HOME"] = before


def needs_weasyprint() -> None:
    "Skip the test where no PDF can be made: the package, or the library Pango beneath it, is missing."
    from leuknb.core import InputError
    from leuknb.reporting.html import need_weasyprint

    try: need_weasyprint()
    except InputError as e: pytest.skip(str(e))
