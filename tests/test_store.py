"""The feature store: what was written is found, whatever happened in between, and never a wrong number."""

import hashlib
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

from leuknb.core import LeuknbError
from leuknb.store import FeatureStore, pack_block


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
import leuknb.store as s
s.BLOCK_ROWS = 3
with s.FeatureStore(sys.argv[1]).writer() as out:
    for i in range(int(sys.argv[2]), int(sys.argv[3])):
        out.append(hashlib.sha256(str(i).encode()).hexdigest(), np.random.default_rng(i).normal(size=5).astype(np.float32))
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
    run = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "0", "10000000"], stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "ten\n"
    run.send_signal(signal.SIGKILL)
    run.wait(timeout=30)
    kept = check(tmp_path, range(200_000))
    assert kept >= 9
    fill(tmp_path, range(kept, kept + 5))
    assert check(tmp_path, range(kept + 5)) == kept + 5


def test_two_writers_at_once_do_not_disturb_each_other(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), a, b], stdout=subprocess.DEVNULL) for a, b in (("0", "300"), ("200", "500"))]
    assert [p.wait(timeout=60) for p in both] == [0, 0]
    assert check(tmp_path, range(500)) == 500


def test_a_block_of_another_width_counts_as_not_stored(tmp_path):
    fill(tmp_path, [0])
    fill(tmp_path, [1], width=7)
    assert check(tmp_path, [0, 1]) == 1


def test_a_row_is_on_disk_seconds_after_it_was_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("leuknb.store.BLOCK_SECONDS", 0.05)
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
