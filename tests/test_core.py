"""Settings refuse what does not fit, in words; files are whole or absent; streams depend on their names alone."""

import math
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leuknb.core import fingerprint, InputError, progress, rng, to_json, write_atomic
from leuknb.settings import make_settings, parse_changes, PRESETS, Settings


@pytest.mark.parametrize(("changes", "words"), [
    ({"sede": 3}, ["'sede'", "seed"]), ({"test_size": 0}, ["test_size", "0", "greater than 0"]),
    ({"seed": -1}, ["seed", "-1"]),
    ({"backbone": 3}, ["backbone", "3"]), ({"views": ["fliplr", "fliplr"]}, ["views", "twice"]),
    ({"device": "gpu"}, ["device", "gpu", "cuda"]),
    ({"synthetic": {"n": 3}}, ["synthetic.n"]), ({"classifiers": []}, ["classifiers"]),
    ({"image_size": 3}, ["image_size", "32"])])
def test_a_bad_setting_is_refused_with_the_value_and_what_is_accepted(changes, words):
    with pytest.raises(InputError) as caught: make_settings(**changes)
    for word in words: assert word in str(caught.value)


def test_every_preset_is_a_valid_setting_and_the_paper_is_the_paper():
    for name in PRESETS: make_settings(name)
    paper = make_settings("paper")
    assert (paper.backbone, paper.layers, paper.image_size, paper.test_size) == ("alexnet", ["fc7"], 227, 0.2)
    assert paper.classifiers == ["svm", "knn", "ensemble", "tree"] and paper.augment > 0


def test_settings_survive_json():
    settings = make_settings("paper", seed=7)
    assert Settings.model_validate_json(to_json(settings)) == settings


@given(st.text(max_size=40))
def test_any_set_argument_is_parsed_or_refused_in_words(text):
    try: make_settings(**parse_changes([text]))
    except InputError as e: assert str(e)


@pytest.mark.parametrize("pair, value", [
    ("params.svm.C=.5", 0.5), ("params.svm.C=5.", 5.0), ("params.svm.C=-.5", -0.5), ("params.svm.C=5", 5),
    ("params.svm.C=1.2.3", "1.2.3"), ("params.svm.C=.", "."), ("params.svm.C=none", None)])
def test_numbers_are_read_as_people_type_them(pair, value):
    found = parse_changes([pair])["params"]["svm"]["C"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["svm,tree", "[svm,tree]", "[svm, tree]", '["svm","tree"]'])
def test_lists_are_read_with_brackets_and_without(text):
    assert parse_changes([f"classifiers={text}"]) == {"classifiers": ["svm", "tree"]}


@given(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=True) | st.integers() | st.text(max_size=5),
                       max_size=6))
def test_equal_values_have_equal_fingerprints_whatever_their_order(value):
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))
    if any(isinstance(v, float) and not math.isfinite(v) for v in value.values()): assert "null" in to_json(value)


def test_a_stream_depends_on_its_seed_and_names_alone():
    first = rng(1, "split", 3).integers(1000, size=5)
    rng(1, "other").integers(1000, size=50)
    assert (rng(1, "split", 3).integers(1000, size=5) == first).all()
    assert not (rng(2, "split", 3).integers(1000, size=5) == first).all()
    assert not (rng(1, "split", 4).integers(1000, size=5) == first).all()


def _write_slowly(path):
    with write_atomic(path) as f:
        f.write("x" * 1000); f.flush()
        time.sleep(30)


def test_a_killed_writer_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text("old")
    process = multiprocessing.get_context("spawn").Process(target=_write_slowly, args=(path,))
    process.start()
    while len(list(tmp_path.iterdir())) < 2: time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL); process.join()
    assert path.read_text() == "old"


def test_progress_in_a_run_leaves_lines_that_end_with_the_last_step(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_PROGRESS", str(tmp_path / "p"))
    assert list(progress(iter(range(5)), "counting", total=5)) == [0, 1, 2, 3, 4]
    assert '"n": 5, "total": 5' in (tmp_path / "p").read_text().splitlines()[-1]


def test_numpy_values_become_plain_json():
    assert to_json({"a": np.float32(0.5), "b": np.array([1, 2]), "c": np.bool_(True),
                    "d": float("nan")}) == '{"a": 0.5, "b": [1, 2], "c": true, "d": null}'


def test_a_notebook_shows_a_bar_after_two_seconds_and_clears_it(monkeypatch):
    import IPython
    import IPython.display

    from leuknb import core

    shown, clock = [], iter(range(0, 1000))
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data))
    monkeypatch.delenv("LEUKNB_PROGRESS", raising=False)
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr(IPython.display, "display", lambda data, raw, display_id: shown.append(data) or handle)
    monkeypatch.setattr(core, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert list(core.progress("abcd", "reading <cells>")) == [*"abcd"]
    assert len(shown) == 4 and shown[-1] == {"text/plain": ""}, "drawn from the second second on, gone at the end"
    assert 'value="2"' in shown[0]["text/html"] and "reading &lt;cells&gt;" in shown[0]["text/html"]
