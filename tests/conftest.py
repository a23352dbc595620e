"""Shared fixtures: the real image sets, one store and one small report for the whole session, a browser; and the
order and length of the tests.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
REAL = Path(os.environ.get("LEUKNB_DATA", ROOT.parent / "shared" / "data"))
PROGRAM = str(Path(sys.executable).parent / "leuknb")
RESULTS = ("metrics.json", "predictions.csv", "dataset.csv")
CHROMIUM = os.environ.get("LEUKNB_CHROMIUM") or shutil.which("chromium") or shutil.which(
    "chromium-browser") or shutil.which("google-chrome")

# a whole report that takes seconds: as settings, and as words of the command line
SMALL = {"image_size": 64, "n_splits": 4, "cv_repeats": 1, "cv_folds": 3, "permutations": 20,
         "cases": 2,
         "synthetic": {"n_images": 40, "images_per_patient": 2}}
WORDS = [word for name, value in SMALL.items() if name != "synthetic" for word in ("--set", f"{name}={value}")]
DRAWN = [word for name, value in SMALL["synthetic"].items() for word in ("--set", f"synthetic.{name}={value}")]

# what python imports at its start, in the report's kernel too: nothing outside this machine is reached, attempts are
# noted
OFFLINE = """
import os, socket
connect, look_up = socket.socket.connect, socket.getaddrinfo
def note(address):
    with open(os.environ["ATTEMPTS"], "a") as f: f.write(f"{address}\\n")
    raise OSError("no network")
def local(host): return str(host) in ("localhost", "None", "") or str(host).startswith("127.") or str(host) == "::1"
inside = lambda self, address: self.family == socket.AF_UNIX or local(address[0])
socket.socket.connect = lambda self, address: connect(self, address) if inside(self, address) else note(address)
socket.getaddrinfo = lambda host, *a, **k: look_up(host, *a, **k) if local(host) else note(host)
"""

# the files that hold a worker longest, begun first so that both workers end together
LONGEST = ("hard/test_runs.py", "test_faults.py", "experiments/test_sweep.py", "reporting/test_run.py",
           "features/test_extraction.py", "test_docs.py",
           "features/test_distributed.py", "modeling/test_model.py")


def pytest_collection_modifyitems(items):
    place = {ROOT / "tests" / name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def leuknb(*arguments, cwd, **environment):
    "Run the command line as a user does, in the folder `cwd`."
    return subprocess.run([PROGRAM, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=600)


def leuknb_here(*arguments, cwd, **environment):
    "The same in this process, which has imported everything already."
    from contextlib import chdir, redirect_stderr, redirect_stdout
    from io import StringIO
    from unittest.mock import patch

    from leuknb.cli import main

    out, err = StringIO(), StringIO()
    with chdir(cwd), patch.dict(os.environ,
                                environment), redirect_stdout(out), redirect_stderr(err), pytest.raises(
                                    SystemExit) as ended:
        main([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), err.getvalue())


def same_results(a: Path, b: Path):
    for name in RESULTS: assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.fixture(scope="session")
def real_data():
    "Return a function: name of a real image set -> its folder; skips the test when the set is absent."

    def find(name: str) -> Path:
        if not (REAL / name).is_dir(): pytest.skip(f"real image set {name!r} is absent")
        return REAL / name

    return find


# --- made once for all workers

@pytest.fixture(scope="session")
def once(tmp_path_factory):
    "Return a function (name, make) -> a folder that the first of the workers to ask for it fills with `make(folder)`."
    mine = tmp_path_factory.getbasetemp()
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine

    def folder_of(name, make):
        folder, done = shared / f"once-{name}", shared / f"once-{name}.done"
        with FileLock(shared / f"once-{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session", autouse=True)
def own_store(once):
    """Keep the feature store, the network's graph and drawn images of the tests apart from the user's own, and make
    each once for all workers.
    """
    folder, before = once("home", lambda made: None), os.environ.get("LEUKNB_HOME")
    os.environ["LEUKNB_HOME"] = str(folder)
    yield folder
    if before is None: del os.environ["LEUKNB_HOME"]
    else: os.environ["LEUKNB_HOME"] = before


class SmallReport(NamedTuple):
    """What came of one report on drawn images, made with `WORDS` and `DRAWN` on two threads, without a network, its
    memory watched.
    """
    folder: Path     # the run folder
    home: Path       # its LEUKNB_HOME, empty before
    stdout: str
    attempts: str    # addresses that anything in it tried to reach
    megabytes: float # of all its processes together, at the peak
    seconds: float


@pytest.fixture(scope="session")
def small_report(once) -> SmallReport:
    "The one small report that every test reads which only reads it."
    folder = once("report", _small_report)
    text = lambda name: (folder / name).read_text()
    return SmallReport(folder / "runs" / "synthetic", folder / "home", text("stdout"), text("attempts"),
                       float(text("megabytes")), float(text("seconds")))


def _small_report(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(OFFLINE)
    (folder / "attempts").touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
                   "ATTEMPTS": str(folder / "attempts"), "LEUKNB_HOME": str(folder / "home"), "OMP_NUM_THREADS": "2"}
    peak, start = 0, time.monotonic()
    with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as err:
        process = subprocess.Popen([PROGRAM, "report", *WORDS, *DRAWN], cwd=folder, env=environment, stdout=out,
                                   stderr=err)
        while process.poll() is None:
            peak = max(peak, sum(map(resident, family(process.pid))))
            time.sleep(0.2)
    assert process.returncode == 0, (folder / "stderr").read_text()
    (folder / "megabytes").write_text(str(peak / 1024))
    (folder / "seconds").write_text(str(time.monotonic() - start))


def family(pid: int) -> list[int]:
    "A process and all that came from it."
    try: children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError: return [pid]
    return [pid, *(p for child in children for p in family(int(child)))]


def resident(pid: int) -> int:
    "Kilobytes that a process alone holds, shared pages counted by their share."
    try: lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError: return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


# --- what may be missing

@pytest.fixture(scope="session")
def browser():
    "Headless Chromium, or a skip that says what is missing."
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM: pytest.skip("no Chromium: install it, or name it with LEUKNB_CHROMIUM")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"])
        yield chromium
        chromium.close()


def needs_rocrate() -> None:
    "Skip the test where run folders are not described: the package rocrate is missing."
    pytest.importorskip("rocrate", reason="rocrate is not installed")


def needs_weasyprint() -> None:
    "Skip the test where no PDF can be made: the package, or the library Pango beneath it, is missing."
    from leuknb.core import InputError
    from leuknb.reporting.html import need_weasyprint

    try: need_weasyprint()
    except InputError as e: pytest.skip(str(e))
