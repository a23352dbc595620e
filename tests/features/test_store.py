"""The feature store: what was written is found, whatever happened in between, and never a wrong number."""

import ast
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leuknb.core import fingerprint, InputError, LeuknbError, write_atomic
from leuknb.features.store import FeatureStore, hold, is_held, matrix, pack_block, release
from leuknb.features.cache import cache_info, prune


def name(i: int) -> str: return hashlib.sha256(str(i).encode()).hexdigest()
def row(i: int, width: int = 5) -> np.ndarray: return np.random.default_rng(i).normal(size=width).astype(np.float32)


def fill(folder, numbers, width=5):
    with FeatureStore(folder).writer() as out:
        for i in numbers: out.append(name(i), row(i, width))


def check(folder, numbers) -> int:
    rows, found = FeatureStore(folder).read([name(i) for i in numbers])
    for i, ok, got in zip(numbers, found, rows if rows is not None else found):
        if ok: np.testing.assert_array_equal(got, row(i))
    return int(found.sum())


WRITER = """
import hashlib, sys, numpy as np
import leuknb.features.store as s
s.BLOCK_ROWS = 3
with s.FeatureStore(sys.argv[1]).writer() as out:
    for i in range(int(sys.argv[2]), int(sys.argv[3])):
        row = np.random.default_rng(i).normal(size=5).astype(np.float32)
        out.append(hashlib.sha256(str(i).encode()).hexdigest(), row)
        if i == int(sys.argv[2]) + 10: print("ten", flush=True)
"""


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=4), st.lists(st.integers(0, 40), max_size=20))
def test_what_any_number_of_runs_wrote_is_found_in_the_order_asked(runs, asked):
    with tempfile.TemporaryDirectory() as d:
        for run in runs: fill(d, run)
        written = {i for run in runs for i in run}
        assert check(d, asked) == sum(i in written for i in asked)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_never_gives_a_wrong_number(data):
    whole = b"".join(pack_block([name(i)], row(i)[None]) for i in range(4))
    cut = data.draw(st.integers(0, len(whole)))
    damaged = bytearray(whole[:cut])
    for at in data.draw(st.lists(st.integers(0, max(0, cut - 1)), max_size=3)):
        if damaged: damaged[at] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as d:
        (Path(d) / "1.segment").write_bytes(bytes(damaged))
        check(d, range(4))


def test_a_damaged_row_that_is_written_again_is_found_again(tmp_path):
    fill(tmp_path, range(4))
    path = FeatureStore(tmp_path).segments()[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    assert check(tmp_path, range(4)) == 0
    fill(tmp_path, range(4))
    assert check(tmp_path, range(4)) == 4


def test_a_writer_killed_in_the_middle_loses_at_most_its_last_block(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "0", "10000000"], stdout=subprocess.PIPE,
                           text=True)
    assert run.stdout.readline() == "ten\n"
    run.send_signal(signal.SIGKILL)
    run.wait(timeout=30)
    kept = check(tmp_path, range(200_000))
    assert kept >= 9
    fill(tmp_path, range(kept, kept + 5))
    assert check(tmp_path, range(kept + 5)) == kept + 5


def test_two_writers_at_once_do_not_disturb_each_other(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), a, b], stdout=subprocess.DEVNULL) for a,
            b in (("0", "300"), ("200", "500"))]
    assert [p.wait(timeout=60) for p in both] == [0, 0]
    assert check(tmp_path, range(500)) == 500


def test_a_block_of_another_width_counts_as_not_stored(tmp_path):
    fill(tmp_path, [0])
    fill(tmp_path, [1], width=7)
    assert check(tmp_path, [0, 1]) == 1


def test_a_row_is_on_disk_seconds_after_it_was_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("leuknb.features.store.BLOCK_SECONDS", 0.05)
    with FeatureStore(tmp_path).writer() as out:
        out.append(name(0), row(0))
        time.sleep(0.06)
        out.append(name(1), row(1))
        assert check(tmp_path, [0, 1]) == 2


def test_a_store_that_cannot_be_written_says_so_and_names_the_mend(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LeuknbError, match="LEUKNB_HOME"): fill(tmp_path / "file" / "store", [0])


def test_the_store_keeps_few_files_and_little_beside_the_numbers(tmp_path):
    fill(tmp_path, range(3000), width=5)
    files = FeatureStore(tmp_path).segments()
    assert len(files) == 1
    assert files[0].stat().st_size < 3000 * (5 * 4 + 32 + 1)


def test_rows_of_a_mapped_matrix_are_those_of_an_ordinary_one(tmp_path, monkeypatch):
    fill(tmp_path, range(600))
    monkeypatch.setattr("leuknb.features.store.MAPPED_BYTES", 2_000)
    assert check(tmp_path, [*range(599, -1, -1), 7, 7]) == 602
    assert [p.suffix for p in tmp_path.iterdir()] == [".segment"]


def test_a_mapped_matrix_can_be_written_released_and_grown_old_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr("leuknb.features.store.MAPPED_BYTES", 2_000)
    rows = matrix(1000, 8, tmp_path / "new")
    rows[5:9] = 3
    release(rows)
    assert rows.sum() == 4 * 8 * 3 and type(rows) is np.ndarray and rows.flags.writeable
    part = rows[5:7]
    del rows
    assert (part == 3).all()


# --- care of the cache ---

OLD = time.time() - 100 * 86_400


def age(path: Path, when: float = OLD):
    for p in (*path.rglob("*"), path): os.utime(p, (when, when), follow_symlinks=False)


@pytest.fixture
def cache(tmp_path):
    "A cache with one entry of each kind, all of them a hundred days old."
    home = tmp_path / "home"
    fill(home / "features" / fingerprint("recipe")[:32], [0, 1])
    for file in ("results/ab/ab" + "0" * 62 + ".parquet", "facts/" + "1" * 64 + ".npz",
                 "synthetic/" + "2" * 20 + "/synthetic.json", "medmnist/bloodmnist/metadata.csv",
                 "backbones/" + "3" * 24 + ".json", "graphs/" + "4" * 32 + ".zip",
                 "pixels/" + "5" * 32 + ".npy", "weights/dinobloom_s.json", "explore/" + "6" * 16 + "/model.json"):
        (home / file).parent.mkdir(parents=True)
        (home / file).write_bytes(b"x" * 10)
    age(home)
    return home


def numbers(home): return cache_info(home).set_index("kind")["number"].to_dict()


def test_every_kind_is_counted_and_removed_when_it_is_old_enough(cache):
    assert numbers(cache) == {k: 1 for k in ("features", "results", "facts", "synthetic", "medmnist", "backbones",
                                             "graphs", "pixels", "weights", "explore")} | {"leftovers": 0}
    assert len(prune(cache, 101)) == 0 and len(prune(cache)) == 0
    assert sorted(prune(cache, 99, dry_run=True)["kind"]) == sorted(prune(cache, 99)["kind"]) == sorted(["features",
        "results", "facts", "synthetic", "medmnist", "backbones", "graphs", "pixels", "weights", "explore"])
    assert set(numbers(cache).values()) == {0}
    assert not [p for p in cache.rglob("*") if p.is_file()]


def test_a_recipe_that_was_read_lately_stays(cache):
    recipe = next((cache / "features").iterdir())
    assert check(recipe, [0, 1]) == 2
    assert "features" not in set(prune(cache, 30)["kind"])
    assert check(recipe, [0, 1]) == 2


def test_times_in_the_future_count_as_now(cache):
    age(cache, time.time() + 10**8)
    assert len(prune(cache, 0)) == 0


def test_links_are_not_followed_and_nothing_outside_the_cache_is_touched(cache, tmp_path):
    outside = tmp_path / "outside"
    fill(outside / "features" / ("d" * 32), [0])
    (cache / "synthetic" / ("2" * 20) / "link").symlink_to(outside)
    (cache / "features" / ("e" * 32)).symlink_to(outside / "features" / ("d" * 32))
    (cache / "features" / ".recipe.json.abcdefgh.part").symlink_to(outside)
    (cache / "facts" / ("f" * 64 + ".npz")).symlink_to(next((outside / "features" / ("d" * 32)).iterdir()))
    shutil.rmtree(cache / "medmnist"); (cache / "medmnist").symlink_to(outside)
    age(outside)
    for p in cache.rglob("*"): os.utime(p, (OLD, OLD), follow_symlinks=False)
    gone = prune(cache, 0)["path"].tolist()
    assert gone and all(str(outside) not in p for p in gone)
    assert check(outside / "features" / ("d" * 32), [0]) == 1
    assert (cache / "features" / ("e" * 32)).is_symlink()


def test_what_bears_another_name_stays(cache):
    kept = [cache / "notes.txt", cache / "features" / "thesis" / "chapter.txt", cache / "results" / "ab" / "mine.csv",
            cache / "synthetic" / ("9" * 20) / "no_json.txt"]
    for file in kept:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("years of work")
    age(cache)
    prune(cache, 0)
    assert all(f.exists() for f in kept)


@pytest.mark.parametrize("make", [lambda p: (p / "thesis.txt").write_text("x"),
                                  lambda p: (p / "features").symlink_to("/"),
                                  lambda p: (p / "features").write_text("x")])
def test_a_folder_that_is_no_cache_is_refused(tmp_path, make):
    make(tmp_path)
    for call in (cache_info, prune):
        with pytest.raises(InputError, match="not leuknb's cache"): call(tmp_path)


def test_a_cache_that_is_not_there_yet_is_empty(tmp_path):
    assert set(numbers(tmp_path / "none").values()) == {0}
    assert len(prune(tmp_path / "none", 0)) == 0 and not (tmp_path / "none").exists()


def test_what_write_atomic_leaves_when_it_is_killed_is_a_leftover_and_goes_after_a_day(cache):
    stopped = write_atomic(cache / "backbones" / "note.json")
    stopped.__enter__().write("{")
    assert numbers(cache)["leftovers"] == 1 and len(prune(cache)) == 0
    age(cache)
    assert prune(cache)["kind"].tolist() == ["leftovers"]
    with pytest.raises(FileNotFoundError): stopped.__exit__(None, None, None)


WRITING = """
import sys, time
from leuknb.features.store import FeatureStore, hold
with FeatureStore(sys.argv[1]).writer() as out, hold(sys.argv[2]):
    out.append("0" * 64, __import__("numpy").ones(5)); out.flush()
    print("writing", flush=True); time.sleep(600)
"""


def test_what_a_living_process_writes_stays_and_goes_when_the_process_was_killed(cache, tmp_path):
    recipe, run = next((cache / "features").iterdir()), tmp_path / "runs" / ".run.abcdefgh.part"
    run.mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", WRITING, str(recipe), str(run)], stdout=subprocess.PIPE,
                               text=True)
    try:
        assert process.stdout.readline() == "writing\n"
        age(cache); age(tmp_path / "runs")
        assert "features" not in set(prune(cache, 30,
                                           runs=tmp_path / "runs")["kind"]) and run.exists() and recipe.exists()
    finally: process.kill(); process.wait()
    age(cache); age(tmp_path / "runs")
    assert {"features", "leftovers"} <= set(prune(cache, 30, runs=tmp_path / "runs")["kind"])
    assert not run.exists() and not recipe.exists()


def test_the_lock_of_a_killed_writer_goes_as_a_leftover_and_its_rows_stay(tmp_path):
    recipe = tmp_path / "features" / ("a" * 32)
    run = subprocess.Popen([sys.executable, "-c", WRITER, str(recipe), "0", "10000000"], stdout=subprocess.PIPE,
                           text=True)
    assert run.stdout.readline() == "ten\n"
    assert is_held(recipe)
    run.kill(); run.communicate()
    assert not is_held(recipe) and len(list(recipe.glob(".lock.*"))) == 1
    age(tmp_path)
    assert prune(tmp_path, 30, dry_run=True)["kind"].tolist() == prune(tmp_path, 30,
        dry_run=True)["kind"].tolist() != [], "looking must not count as use"
    assert prune(tmp_path)["kind"].tolist() == ["leftovers"] and not list(recipe.glob(".lock.*"))
    assert check(recipe, range(10)) >= 9


def test_each_of_two_who_fill_a_folder_holds_it_until_both_have_ended(tmp_path):
    with hold(tmp_path):
        with hold(tmp_path): assert is_held(tmp_path)
        assert is_held(tmp_path)
    assert not is_held(tmp_path) and not list(tmp_path.iterdir())


def test_a_file_system_without_locks_holds_nothing_back_from_being_written(tmp_path, monkeypatch):
    def refuse(*_, **__): raise OSError(37, "No locks available")

    monkeypatch.setattr("leuknb.features.store.FileLock.acquire", refuse)
    fill(tmp_path, range(3))
    assert check(tmp_path, range(3)) == 3 and not is_held(tmp_path)


def test_no_module_needs_what_windows_lacks():
    only_posix = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty"}
    for path in (Path(__file__).parents[2] / "leuknb").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node,
                ast.ImportFrom) else []
            assert not only_posix & set(names), path.name


def test_leftovers_of_runs_go_and_the_only_copy_of_a_run_stays(tmp_path):
    runs = tmp_path / "runs"
    for name in (".a.abcdefgh.part", ".b.123.old", ".c.456.old", "c", ".hidden", ".d.part", "whole"):
        (runs / name).mkdir(parents=True)
        (runs / name / "run.json").write_text("{}")
    age(runs)
    assert sorted(Path(p).name for p in prune(tmp_path / "home", runs=runs)["path"]) == [".a.abcdefgh.part",
        ".c.456.old"]
    assert sorted(p.name for p in runs.iterdir()) == sorted([".b.123.old", "c", ".hidden", ".d.part", "whole"])


@pytest.mark.parametrize("days", [-1, float("nan")])
def test_a_number_of_days_that_is_none_is_refused(cache, days):
    with pytest.raises(InputError, match="older_than_days"): prune(cache, days)
