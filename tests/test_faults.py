"""What is promised when things go wrong, and a test for each promise: full and read-only disks, kills, two runs at
once, changed clocks, no network, 1 GB.

The ordinary tests kill a few times, the long ones eight times, and `LEUKNB_FAULTS=50` (`make faults`) fifty times.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import DRAWN, leuknb, leuknb_here, PROGRAM, RESULTS, same_results, WORDS
from PIL import Image

from leuknb.core import fingerprint
from leuknb.settings import make_settings
from leuknb.data.datasets import load_dataset
from leuknb.features.extraction import extract, recipe_of
from leuknb.features.store import FeatureStore
from leuknb.features.cache import cache_info, prune

KILLS = int(os.environ.get("LEUKNB_FAULTS", 0))
FEW, MANY = 2, pytest.param(KILLS or 8, marks=pytest.mark.long)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals are those of Linux")

# a file may not grow beyond the limit: the write fails as it does on a full disk
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from leuknb.cli import main
main(sys.argv[2:])
"""

@pytest.fixture(scope="module")
def images(tmp_path_factory):
    "A folder of 48 small pictures of two classes."
    folder, g = tmp_path_factory.mktemp("faults") / "images", np.random.default_rng(0)
    for i in range(48):
        name = folder / ("abnormal" if i % 2 else "normal") / f"{i:02d}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(g.normal(120 + 30 * (i % 2), 60, (80, 80, 3)), 0, 255).astype(np.uint8)).save(name)
    return folder


def limited(size: int, *arguments, cwd, **environment):
    "The command line, its files no longer than `size` bytes."
    return subprocess.run([sys.executable, "-c", LIMITED, str(size), *map(str, arguments)], cwd=cwd,
                          capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)


def told(done, status: int, *words):
    "The process ended with a status and a sentence, not with a traceback."
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    for word in words: assert word in done.stderr, done.stderr


# --- a full disk

@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_full_disk_ends_an_extraction_in_words_and_what_was_stored_is_right_and_resumed(images, tmp_path, engine):
    if engine == "onnx": pytest.importorskip("onnxruntime")
    done = limited(60_000, "extract", images, "--out", tmp_path / "out", "--set", "image_size=64", "--set",
                   f"engine={engine}", cwd=tmp_path, LEUKNB_HOME=str(tmp_path / "home"))
    told(done, 1, "cannot be written", "LEUKNB_HOME")
    assert not (tmp_path / "out").exists()
    settings = make_settings(data=str(images), image_size=64, engine=engine)
    dataset = load_dataset(settings)
    rows = extract(dataset, settings, store=tmp_path / "home" / "features")
    np.testing.assert_array_equal(rows, extract(dataset, settings, store=tmp_path / "elsewhere"))


def test_a_full_disk_leaves_whole_blocks_in_the_store(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    row, digest = np.ones(1000, np.float32), lambda i: f"{i:064x}"
    with pytest.raises(Exception, match="make room"), FeatureStore(tmp_path).writer() as out:  # noqa: B017, PT012
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            for i in range(9):
                out.append(digest(i), row * i)
                out.flush()
        finally: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    rows, found = FeatureStore(tmp_path).read([digest(i) for i in range(9)])
    assert found.tolist() == [True] * 2 + [False] * 7
    assert (rows[:2] == [[0], [1]]).all()


def test_a_full_disk_ends_a_report_in_words_and_leaves_no_run_folder_that_looks_whole(small_report, tmp_path):
    shutil.copytree(small_report.home, tmp_path / "home")
    done = limited(150_000, "report", *WORDS, *DRAWN, "--out", tmp_path / "run", cwd=tmp_path,
                   LEUKNB_HOME=str(tmp_path / "home"))
    told(done, 1)
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob("*/report.html"))


# --- read-only folders

@pytest.mark.parametrize("data", ["images", "synthetic"])
def test_a_read_only_cache_is_told_with_the_mend(images, tmp_path, data):
    done = leuknb_here("extract", images if data == "images" else data, "--out", "out", "--set", "synthetic.n_images=4",
                       cwd=tmp_path, LEUKNB_HOME="/sys/leuknb")
    told(done, 1, "cannot be written", "LEUKNB_HOME")


@pytest.mark.parametrize("call", [["report", "DATA", *WORDS], ["audit", "DATA"], ["train", "DATA"], ["extract", "DATA"],
                                  ["sweep", "DATA", "--over", "seed=0,1"], ["ablation", "DATA"]],
                         ids=lambda call: call[0])
def test_a_read_only_place_for_results_is_told_before_anything_is_computed(images, tmp_path, monkeypatch, capsys, call):
    from leuknb.cli import main

    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as ended:
        main([str(images) if word == "DATA" else word for word in call] + ["--out", "/sys/leuknb/run"])
    said = capsys.readouterr().err
    assert (ended.value.code == 2 and "/sys/leuknb/run" in said and "name another place" in said
            and "Traceback" not in said)
    assert not (tmp_path / "home").exists()


# --- killed

RESUME = """
import sys
import leuknb.features.store
leuknb.features.store.BLOCK_ROWS = 4
from leuknb.settings import make_settings
from leuknb.data.datasets import load_dataset
from leuknb.features.extraction import extract
import leuknb.data.segmentation, torch
print("ready", flush=True)
settings = make_settings(data=sys.argv[1], image_size=64)
extract(load_dataset(settings), settings, store=sys.argv[2])
"""


@pytest.mark.parametrize("kills", [FEW, MANY])
def test_an_extraction_killed_at_random_moments_is_never_wrong_and_loses_nothing_that_was_stored(images, tmp_path,
    kills):
    settings, chance, had, waits = make_settings(data=str(images), image_size=64), random.Random(0), 0, []
    dataset = load_dataset(settings)
    digests, key = dataset.usable["sha256"].tolist(), fingerprint(recipe_of(settings))[:32]
    rows = extract(dataset, settings, store=tmp_path / "clean")
    longest = 3.0
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", RESUME, str(images), str(tmp_path / "store")],
                                   stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        start = time.monotonic()
        try: process.wait(chance.uniform(0, longest))
        except subprocess.TimeoutExpired: process.kill()
        else: longest = min(longest, time.monotonic() - start)
        process.wait()
        got, found = FeatureStore(tmp_path / "store" / key).read(digests)
        assert found.sum() >= had
        if got is not None: np.testing.assert_array_equal(got[found], rows[found])
        had = int(found.sum())
        waits.append(had)
        if had == len(digests) and kills > FEW:
            had = 0
            for p in FeatureStore(tmp_path / "store" / key).segments(): p.unlink()
    np.testing.assert_array_equal(extract(dataset, settings, store=tmp_path / "store"), rows)
    print("rows after each kill:", waits)


@pytest.mark.parametrize("kills", [1, MANY])
def test_a_report_killed_at_random_moments_is_whole_or_absent_and_the_next_one_gives_the_same_bytes(small_report,
    tmp_path, kills):
    home, chance, seen = tmp_path / "home", random.Random(1), []
    for i in range(kills):
        run = tmp_path / "runs" / f"run{i}"
        process = subprocess.Popen([PROGRAM, "report", "--out", str(run), *WORDS, *DRAWN], cwd=tmp_path,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env={**os.environ, "LEUKNB_HOME": str(home)}, start_new_session=True)
        try: process.wait(chance.uniform(0.5, small_report.seconds))
        except subprocess.TimeoutExpired: os.killpg(process.pid, signal.SIGKILL)  # of the session made a line above
        process.wait()
        assert not [p for p in (tmp_path / "runs").glob("*-failed")]
        seen.append(run.exists())
        if run.exists(): same_results(run, small_report.folder)
    done = leuknb("report", "--out", tmp_path / "runs" / "last", *WORDS, *DRAWN, cwd=tmp_path, LEUKNB_HOME=str(home))
    assert done.returncode == 0, done.stderr
    same_results(tmp_path / "runs" / "last", small_report.folder)
    for path in (tmp_path / "runs").iterdir():
        for p in (path, *path.rglob("*")): os.utime(p, (time.time() - 200_000,) * 2)
    prune(home, runs=tmp_path / "runs")
    assert not [p for p in (tmp_path / "runs").iterdir()
                if p.name.startswith(".")], "killed runs leave what prune removes"
    print("whole when killed:", seen)


# --- two at once

MEET = """
# Meeting the other run, then writing for a while
import json, pathlib, time
folder, end = pathlib.Path(out), time.monotonic() + 120
(folder.parent / f"started{seed}").touch()
while not (folder.parent / f"started{1 - seed}").exists() and time.monotonic() < end: time.sleep(0.02)
for name in ("metrics.json", "predictions.csv", "dataset.csv", "run.json"):
    (folder / name).write_text(json.dumps({
        "seed": seed, "dataset": {"name": "two", "n_images": 2}, "settings": {}, "versions": {}, "fingerprint": "0",
        "finished": "2026-01-01T00:00:00+0000"}))
    time.sleep(0.05)
"""
RUN = """
import sys
from pathlib import Path
from leuknb.cli import _told
from leuknb.settings import make_settings
from leuknb.reporting.run import run_report
try: print(run_report(make_settings(seed=int(sys.argv[1])), "run", notebook=Path(sys.argv[2])))
except Exception as e: sys.exit(_told(e))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs that are asked for one folder and both find it free: (the folder they ran in, what they printed, what
    they told).
    """
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    cwd = tmp_path_factory.mktemp("two")
    names = "\n".join(f"{name} = None" for name in type(make_settings()).model_fields)
    cells = [new_code_cell(names, metadata={"tags": ["parameters"]}), new_code_cell(MEET.strip())]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3",
        "language": "python"}}), cwd / "meet.ipynb")
    both = [subprocess.Popen([sys.executable, "-c", RUN, str(seed), "meet.ipynb"], cwd=cwd, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True) for seed in (0, 1)]
    said = [p.communicate(timeout=300) for p in both]
    # the folder is told last
    return cwd, [p.returncode for p in both], [out.strip().split("\n")[-1] for out, _ in said], [err for _, err in said]


def seeds_in(run: Path) -> set: return {json.loads((run / name).read_text())["seed"] for name in (*RESULTS, "run.json")}


def test_two_runs_into_one_folder_are_never_mixed(two):
    cwd, status, _, told = two
    assert 0 in status and not any("Traceback" in t for t in told), told
    assert len(seeds_in(cwd / "run")) == 1 and (cwd / "run" / "report.html").is_file()
    assert not [p for p in cwd.iterdir() if p.name.startswith(".") and p.name.endswith((".part", ".old"))]


def test_of_two_runs_into_one_folder_none_is_lost(two):
    cwd, status, printed, _ = two
    assert status == [0, 0] and len(set(printed)) == 2
    assert {s for p in printed for s in seeds_in(cwd / p)} == {0, 1}


# --- changed clocks

def test_a_changed_image_is_computed_anew_whatever_its_times_say(images, tmp_path):
    settings = make_settings(data=str(images), image_size=64)
    before = extract(load_dataset(settings), settings, store=tmp_path)
    file = next((images / "normal").iterdir())
    bytes_before, times = file.read_bytes(), file.stat()
    try:
        for shift in (0, 10 * 365 * 86_400, -10 * 365 * 86_400):
            Image.fromarray(np.full((80, 80, 3), 100 + shift % 97, np.uint8)).save(file)
            os.utime(file, (times.st_atime + shift, times.st_mtime + shift))
            dataset = load_dataset(settings)
            place = dataset.usable["file_name"].tolist().index(f"normal/{file.name}")
            after = extract(dataset, settings, store=tmp_path)
            assert not np.array_equal(after[place], before[place])
            np.testing.assert_array_equal(np.delete(after, place, 0), np.delete(before, place, 0))
    finally: file.write_bytes(bytes_before)


def test_rows_are_found_when_the_clock_was_wrong_as_they_were_written(images, tmp_path):
    settings = make_settings(data=str(images), image_size=64)
    dataset = load_dataset(settings)
    rows = extract(dataset, settings, store=tmp_path)
    for file in FeatureStore(tmp_path / fingerprint(recipe_of(settings))[:32]).segments():
        ahead = file.with_name(f"{time.time_ns() + 10**18:020d}-0badc10c.segment")
        file.rename(ahead)
        os.utime(ahead, (time.time() + 10**9,) * 2)
    np.testing.assert_array_equal(extract(dataset, settings, store=tmp_path), rows)


def test_weights_changed_behind_an_unchanged_time_are_noticed(tmp_path, monkeypatch):
    import torch

    from leuknb.features.backbones import load_torchvision
    from leuknb.features.backbones import describe

    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    state = load_torchvision().models.squeezenet1_1().state_dict()
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    first, times = describe("squeezenet1_1", file).sha256, file.stat()
    state["features.0.bias"] += 1
    torch.save(state, file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size
    assert describe("squeezenet1_1", file).sha256 != first


# --- no network, little memory

def test_a_report_asks_nothing_of_the_network(small_report): assert small_report.attempts == ""


def test_a_report_fits_into_1_gb(small_report):
    assert 100 < small_report.megabytes < 1024, f"{small_report.megabytes:.0f} MB at the peak"


def test_the_cache_of_a_run_is_told_kind_by_kind(small_report):
    table = cache_info(small_report.home).set_index("kind")["number"]
    assert (table[["features", "results", "facts", "backbones"]] >= 1).all()
    assert table["leftovers"] == 0
