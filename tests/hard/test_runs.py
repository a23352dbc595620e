"""Whole runs over a hostile folder: the page holds text and no markup of strangers, the tables lead back to the
files, nothing lies outside, and the bytes repeat elsewhere.
"""

import csv
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from inputs import saved
from PIL import Image
from test_folders import NAMES

MARK = "zz_q"  # in every hostile label and patient, so that it can be found in the page
LABELS = [f"</td></table></style></script><script>alert('{MARK}')</script>",
          f"=abnormal {MARK} $\\frac{{ <img src=x onerror={MARK}()>"]
PATIENT = f"\"><svg onload={MARK}()>"
QUICK = [w for s in ("n_splits=2", "cv_repeats=1", "cv_folds=2", "permutations=0", "cases=2",
                     "classifiers=svm,tree") for w in ("--set", s)]
TABLES = ("metrics.json", "predictions.csv", "dataset.csv")


def noise(seed, dark):
    "A PNG of which no two are alike, so that no copies are found."
    return saved(Image.fromarray(np.random.default_rng(seed).integers(0, 110 if dark else 220, (40, 50, 3),
        dtype=np.uint8)), "PNG")


def hostile_folder(root, backwards=False):
    """A folder of good images under all odd names, listed with hostile labels and patients; `backwards` makes the
    files in the other order.
    """
    names = [f"{n[:-4]}{MARK}.png" if len(n) < 60 and n.endswith(".png") else n for n in NAMES if NAMES[n]]
    files = [(f"images/{name}", LABELS[i % 2], f"{'=1+' if i % 3 else ''}{i % 2}{i // 2 % 5}{PATIENT}", noise(i, i % 2))
             for i, name in enumerate(names)]
    files += [(f"images/broken{MARK}.png", LABELS[0], "", b"not an image"),
              (f"=top{MARK}.png", LABELS[1], "", noise(999, True))]
    (root / "images").mkdir(parents=True)
    for name, _, _, data in reversed(files) if backwards else files: (root / name).write_bytes(data)
    with open(root / "metadata.csv", "w", newline="") as f:
        csv.writer(f).writerows([("file_name", "label", "patient_id"), *(row[:3] for row in files)])
    return root


def run(place, data, umask=0o022, **environment):
    "Run a report from `place` with everything that may be written kept below it."
    for name in ("cwd", "home", "store", "tmp"): (place / name).mkdir(parents=True)
    env = {**os.environ, "HOME": str(place / "home"), "LEUKNB_HOME": str(place / "store"), "TMPDIR": str(place / "tmp"),
           "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([str(Path(sys.executable).parent / "leuknb"), "report", str(data), *QUICK], cwd=place / "cwd",
                          capture_output=True, text=True, env=env, timeout=300, umask=umask)
    assert done.returncode == 0, done.stderr
    return place / "cwd" / "runs" / "set"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    "(place, data folder, what it held before, run folder) of a run over the hostile folder."
    place = tmp_path_factory.mktemp("hostile")
    data = hostile_folder(place / "data" / "set")
    before = snapshot(place / "data")
    return place, data, before, run(place / "work", data)


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


class Page(HTMLParser):
    "Every element with its attributes, and the text between."

    def __init__(self):
        super().__init__()
        self.elements, self.text = [], []

    def handle_starttag(self, tag, attrs): self.elements.append((tag, attrs))
    def handle_data(self, data): self.text.append(data)


# attributes that are read aloud or shown, and may hold a name
SPOKEN = ("alt", "title", "aria-label", "value", "placeholder")


def test_the_page_shows_hostile_names_as_text_and_makes_no_element_of_them(hostile):
    page = Page()
    page.feed((hostile[3] / "report.html").read_text())
    for tag, attrs in page.elements:
        assert tag.isalnum() or set(tag) <= set("abcdefghijklmnopqrstuvwxyz0123456789-"), tag
        for name, value in attrs:
            assert MARK not in name and name.isascii(), (tag, name)
            assert MARK not in (value or "") or name in SPOKEN or name.startswith("data-"), (tag, name, value)
            if name == "src": assert value.startswith("data:image/"), value[:80]
            if name == "href": assert value.startswith(("#", "data:")), value[:80]
            assert not name.startswith("on") or MARK not in value
    text = "".join(page.text)
    assert LABELS[0] in text and f"broken{MARK}.png" in text


def test_the_figures_are_well_formed_and_hold_no_script(hostile):
    figures = list((hostile[3] / "figures").glob("*.svg"))
    assert figures
    for figure in figures:
        for element in ET.parse(figure).iter():
            assert not element.tag.endswith(("script", "foreignObject",
                                             "image")) or "}image" in element.tag, element.tag


@pytest.mark.parametrize("table", ["predictions.csv", "dataset.csv"])
def test_the_tables_hold_no_live_formula_and_lead_back_to_the_files(hostile, table):
    _, data, _, folder = hostile
    rows = list(csv.reader(open(folder / table, newline="", encoding="utf-8")))
    head, rows = rows[0], rows[1:]
    assert rows and all(len(row) == len(head) for row in rows)
    for row in rows:
        cells = dict(zip(head, row))
        for column, cell in cells.items():
            if column not in ("score", "split", "width", "height"):
                assert not cell.startswith(tuple("=+-@\t\r")), (column, cell)
        if cells.get("status", "ok") == "ok": assert (data / cells["file_name"]).is_file(), cells["file_name"]
    for separator in ";\t":  # as a spreadsheet of another country opens it
        for line in csv.reader(open(folder / table, newline="", encoding="utf-8"), delimiter=separator):
            for cell in line[1:]: assert not cell.lstrip(" \"'").startswith(tuple("=+-@")), cell


def test_every_file_is_in_the_table_and_the_json_is_strict(hostile):
    _, data, _, folder = hostile
    listed = {r["file_name"]: r for r in csv.DictReader(open(folder / "dataset.csv", newline="", encoding="utf-8"))}
    used = [n for n, r in listed.items() if r["status"] == "ok"]
    # metadata.csv is read with / for \\, so these are missed under one name and not listed under the other
    unlike = sum("\\" in n for n in NAMES if NAMES[n])
    assert f"./=top{MARK}.png" in used and len(listed) == sum(v is not None
                                                              for v in NAMES.values()) + 2 + unlike and len(used) > 30
    metrics = json.loads((folder / "metrics.json").read_text(), parse_constant=lambda c: pytest.fail(c))
    assert metrics["dataset"]["n_images"] == len(used) and metrics["dataset"]["n_skipped"] == len(listed) - len(used)
    assert metrics["dataset"]["classes"] == sorted([LABELS[0], "'" + LABELS[1]])


def test_nothing_is_written_outside_the_run_folder_and_the_store(hostile):
    place, _, before, folder = hostile
    assert snapshot(place / "data") == before
    assert [p.name for p in (place / "work" / "cwd").iterdir()] == ["runs"] and [p.name
        for p in folder.parent.iterdir()] == ["set"]
    assert not list((place / "work" / "tmp").rglob("*.png")) and {p.name for p in place.iterdir()} == {"data", "work"}
    # what the libraries keep for themselves
    allowed = {".ipython", ".cache", ".config", ".local", ".jupyter", ".matplotlib", ".nv"}
    assert {p.name for p in (place / "work" / "home").iterdir()} <= allowed
    # written where the extra `crate` is installed
    assert {p.name for p in folder.iterdir()} - {"ro-crate-metadata.json"} == {
        "report.html", "report.ipynb", "figures", "run.json", *TABLES, "patients.csv", "labels.csv"}
    assert not [p for p in (place / "work").rglob("*") if MARK in p.name]


def test_another_process_hash_seed_locale_time_zone_umask_folder_and_order_of_files_give_the_same_bytes(hostile,
    tmp_path):
    data = hostile_folder(tmp_path / "elsewhere" / "set", backwards=True)
    again = run(tmp_path / "other place", data, umask=0o077, PYTHONHASHSEED="12345", LC_ALL="C", TZ="Asia/Kathmandu",
                COLUMNS="20", PYTHONUNBUFFERED="1", OMP_NUM_THREADS="2")
    for name in TABLES: assert (again / name).read_bytes() == (hostile[3] / name).read_bytes(), name


def test_a_private_umask_keeps_the_results_private(tmp_path):
    from leuknb.core import write_atomic

    before = os.umask(0o077)
    try:
        with write_atomic(tmp_path / "x.csv") as f: f.write("1")
    finally: os.umask(before)
    assert (tmp_path / "x.csv").stat().st_mode & 0o777 == 0o600

