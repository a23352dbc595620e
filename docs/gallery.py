"""Reports to look at: executed on drawn images, and kept by what they are made of, so that only a change makes them
anew.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent


class Example(NamedTuple):
    "A report of the gallery."
    name: str  # of its page
    title: str
    about: str  # what to look for in it, in a sentence
    settings: dict  # what differs from the default


_TOLD = yaml.safe_load((ROOT / "docs" / "gallery.yml").read_text(encoding="utf-8"))
TINY, EXAMPLES = _TOLD["tiny"], [Example(**told) for told in _TOLD["examples"]]


def words(settings: dict) -> list[str]:
    "Settings as words of the command line."
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def key_of(settings: dict) -> str:
    "What a report is made of, in a few characters: its settings, and every file of leuknb."
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for path in sorted([*(ROOT / "leuknb").rglob("*"), ROOT / "nbs" / "reports" / "report.ipynb"]):
        if path.is_file() and "__pycache__" not in path.parts: digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def made(example: Example, tiny: bool = False) -> Path:
    "The page of a report, executed now, or before with the same settings and code."
    from leuknb.core import home, write_atomic

    settings = {**example.settings, **TINY} if tiny else example.settings
    page = home() / "gallery" / key_of(settings) / "report.html"
    if page.is_file(): return page
    with tempfile.TemporaryDirectory(prefix="leuknb-gallery-") as folder:
        call = [sys.executable, "-c", "from leuknb.cli import main; main()", "report", *words(settings),
                "--out", f"runs/{example.name}"]
        done = subprocess.run(call, cwd=folder, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(
                                  [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])})
        if done.returncode: raise SystemExit(f"docs: the report {example.name} failed:\n{done.stderr[-2000:]}")
        text = Path(folder, "runs", example.name, "report.html").read_text(encoding="utf-8")
        with write_atomic(page) as f: f.write(text.replace(f"{Path(folder).resolve()}/", ""))
    return page


def command(settings: dict) -> str:
    "The command that makes a report, in lines that fit a page; no option is torn."
    line = "leuknb report" + "".join(f" --set\0{name}={value}" for name, value in settings.items())
    return " \\\n    ".join(textwrap.wrap(line, 76, break_on_hyphens=False, break_long_words=False)).replace("\0", " ")


def write_reports(folder: Path, tiny: bool = False) -> None:
    "The executed reports into `folder`."
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool: pages = list(pool.map(lambda example: made(example, tiny), EXAMPLES))
    for example, page in zip(EXAMPLES, pages): shutil.copy(page, folder / f"{example.name}.html")
