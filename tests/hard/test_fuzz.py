"""Mutated bytes into every reader, some seconds of it; benchmarks/fuzz_readers.py does the same for hours, led by
coverage.
"""

import time

import pytest
import targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leuknb.core import InputError
from leuknb.auditing.published_table import check_table, read_table

SOME = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def mutated(draw, seeds):
    "A valid file with pieces overwritten, cut out, doubled, or another's pieces put in."
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 4)):
            case 0: data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1: data[at : at + 4] = draw(st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff",
                                                              b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\n=1;", b"\",,\n"]))
            case 2: del data[at : at + draw(st.integers(1, 200))]
            case 3: data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case 4: data[at:at] = draw(st.sampled_from(seeds))[: draw(st.integers(1, 100))]
    return bytes(data)


@pytest.mark.parametrize("name", ["image", "metadata", "settings", "weights", "published"])
def test_mutated_bytes_are_read_or_refused_in_words(name):
    target = getattr(targets, name)

    @settings(SOME, max_examples=40 if name == "weights" else 120)  # torch looks for long at some of them
    @given(mutated(targets.CORPUS[target]()))
    def tried(data): targets.run(target, data)

    tried()


@SOME
@given(st.text(max_size=60))
def test_any_text_is_a_setting_or_refused_in_words(text): targets.run(targets.settings, text.encode("utf-8", "replace"))


NAMES = ["seed", "layers", "params", "synthetic", "synthetic.seed", "params.svm", "params.svm.C", "test_size", "views",
         "weights", "data", "out", "image_size", "tune", "positive", "classifiers"]
VALUES = st.text(max_size=12) | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["[]", "{}", "null",
    "[[]]", '{"a":{"b":[]}}', "1e999", "NaN", "-Infinity", "[" * 3000, "1" * 5000, "true", ",,,", "\0"])


@SOME
@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4))
def test_known_names_with_any_value_are_settings_or_refused_in_words(pairs):
    targets.run(targets.settings, "\n".join(f"{n}={v}" for n, v in pairs).encode("utf-8", "replace"))


CELL = st.sampled_from(["97.44", "0.9", "100", "", "101", "nan", "1e400", "-1", "9" * 400, "20", "97,4 %", "=1+1",
                        "model", "accuracy", "n", "[/red]"]) | st.text(max_size=6)


@settings(SOME, max_examples=60)
@given(st.lists(st.sampled_from(["model", "accuracy", "f1", "n_pos", "n_neg", "n", "Recall (%)", "x"]), min_size=1,
                max_size=5), st.data())
def test_any_published_table_is_checked_or_refused_in_words(head, data):
    rows = data.draw(st.lists(st.lists(CELL, min_size=len(head), max_size=len(head)), max_size=4))
    targets.run(targets.published, "\n".join(",".join(row) for row in [head, *rows]).encode("utf-8", "replace"))


@pytest.mark.parametrize("row", ["model,accuracy,n\na,97.44,10000000\n", "model,specificity,n_pos\na,97.44,10000000\n",
                                 "model,f1,n\na,50,9999999\n"])
def test_a_published_table_of_huge_sizes_is_refused_at_once(row, tmp_path):
    (tmp_path / "t.csv").write_text(row)
    start = time.process_time()
    with pytest.raises(InputError, match="n_pos"): check_table(read_table(tmp_path / "t.csv"))
    assert time.process_time() - start < 10
