"""Published tables: exact recovery of counts, verdicts, bad files, speed; intervals and tests against other
libraries.
"""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from leuknb.core import InputError, to_json
from leuknb.paper import COUNTS
from leuknb.classification.estimators import model_name
from leuknb.evaluation.metrics import PAPER_METRICS
from leuknb.auditing.published_table import (
    check_table, exact_intervals, fitting, implied_sizes, mcnemar_extremes, paper_table, printed, rates_of,
    read_table)

matrices = st.tuples(*[st.integers(0, 40)] * 4).filter(lambda c: c[0] + c[1] and c[2] + c[3])


def printed_row(counts, decimals, percent, kinds=PAPER_METRICS):
    true = rates_of(*counts)
    return {k: f"{(100 if percent else 1) * true[k]:.{decimals}f}" for k in kinds}


@settings(max_examples=150, deadline=None)
@given(matrices, st.integers(0, 3), st.booleans(), st.sets(st.sampled_from(PAPER_METRICS), min_size=1))
def test_the_true_matrix_is_always_among_those_that_fit(counts, decimals, percent, kinds):
    tp, fn, fp, tn = counts
    rates = {k: printed(v, percent) for k, v in printed_row(counts, decimals, percent, kinds).items()}
    found = fitting(rates, tp + fn, fp + tn)
    assert ((found["tp"] == tp) & (found["fp_low"] <= fp) & (fp <= found["fp_high"])).any()


@settings(max_examples=60, deadline=None)
@given(matrices, st.integers(0, 3), st.sets(st.sampled_from(PAPER_METRICS), min_size=1))
def test_every_matrix_found_prints_as_the_row(counts, decimals, kinds):
    tp, fn, fp, tn = counts
    row = printed_row(counts, decimals, True, kinds)
    for r in fitting({k: printed(v, True) for k, v in row.items()}, tp + fn, fp + tn).itertuples():
        for fp_ in {r.fp_low, r.fp_high}:
            again = rates_of(r.tp, r.n_pos - r.tp, fp_, r.n_neg - fp_)
            assert all(abs(100 * again[k] - float(row[k])) <= 0.5 * 10**-decimals + 1e-9 for k in row)


def test_the_seeds_table_is_consistent_with_20_and_19_images_only():
    check = check_table(paper_table(), n=39)
    assert check.consistent and check.sizes[["n_pos", "n_neg"]].values.tolist() == [[20, 19]]
    assert {r["model"]: (r["tp"], r["fn"], r["fp"], r["tn"]) for r in check.metrics["table"]} == COUNTS
    best = {(c["a"], c["b"]): c["p_best"] for c in check.metrics["comparisons"]}
    assert best["svm", "ensemble"] == 1.0 and best["svm", "knn"] == pytest.approx(0.125) and best["svm",
        "tree"] == pytest.approx(0.0078125)


def test_a_row_that_cannot_be_right_is_named_with_the_rate_that_does_not_fit():
    table = paper_table()
    table.loc[1, "specificity"] = "91.74"
    check = check_table(table, n=39)
    assert not check.consistent and check.table.set_index("model")["verdict"]["ensemble"] == "inconsistent"
    assert check.table.set_index("model")["misfit"]["ensemble"] == "specificity"
    assert any("ensemble" in s and "specificity" in s for s in check.sentences)


def test_rows_called_like_our_models_keep_the_names_their_table_gives_them():
    ours = check_table(paper_table(), n=39).sentences
    assert "svm, ensemble, knn and tree as printed" in " ".join(ours) and not any("linear SVM" in s for s in ours)
    assert any("linear SVM" in s for s in check_table(paper_table(), n=39, name=model_name).sentences)


def test_rows_that_fit_alone_but_not_on_the_same_test_set_are_not_called_consistent():
    table = pd.DataFrame({"model": ["a", "b", "c"], "accuracy": ["97.44", "94.87", "96.77"],
                          "sensitivity": ["95.00", "95.00", "100.00"]})
    assert check_table(table.iloc[[2]], bound=20).consistent
    assert not check_table(table, bound=20).consistent


def test_fraction_and_per_cent_and_percent_sign_say_the_same():
    wants = check_table(paper_table(), n=39).metrics["table"]
    fractions = paper_table().map(lambda v: f"{float(v) / 100:.4f}" if v.replace(".", "").isdigit() else v)
    signs = paper_table().map(lambda v: v + " %" if v.replace(".", "").isdigit() else v)
    for table in (fractions, signs):
        got = check_table(table, n=39).metrics["table"]
        assert [(r["model"], r["tp"], r["fp"]) for r in got] == [(r["model"], r["tp"], r["fp"]) for r in wants]


@pytest.mark.parametrize("text, words", [
    ("model,acuracy\na,1\n", "accuracy"), ("", "empty"), ("model,accuracy\na,b\n", "not a number"),
    ("model,accuracy\na,104\n", "100"),
    ("model,accuracy\na\n", "cells"), ("model,accuracy\n", "no rows"), ("model,accuracy\na,\n", "no rate"),
    ("accuracy,acc\n1,1\n", "twice"),
    ("model,accuracy,n\na,90,10\nb,90,20\n", "different values"), ("model,accuracy,n\na,90,many\n", "number of images"),
    ("accuracy\n9.9.9\n", "not a number"),
    ("accuracy\n-5\n", "not a number"), ("accuracy\nnan\n", "not a number"), ("accuracy\n=1+1\n", "not a number"),
    ("accuracy,n\n90,0\n", "from 1"),
])
def test_a_bad_csv_is_told_in_a_sentence(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=words): check_table(read_table(tmp_path / "t.csv"))


def test_a_missing_or_binary_table_is_told_in_a_sentence(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x80")
    for path in (tmp_path / "t.csv", tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="table"): read_table(path)


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_intervals_agree_with_statsmodels(counts):
    tp, fn, fp, tn = counts
    assert exact_intervals(*counts)["accuracy"] == pytest.approx(proportion_confint(tp + tn, sum(counts),
        method="beta"), nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30))
def test_the_true_mcnemar_p_lies_between_best_and_worst_case(seed, n_pos, n_neg):
    rng = np.random.default_rng(seed)
    y = np.repeat([1, 0], [n_pos, n_neg])
    a, b = ((rng.random(len(y)) < q).astype(int) for q in rng.random((2, 1)))
    counts = lambda p: tuple(int(v) for v in ((p & y).sum(), ((1 - p) & y).sum(), (p & (1 - y)).sum(),
                                              ((1 - p) & (1 - y)).sum()))
    ra, rb = a == y, b == y
    p = mcnemar([[(ra & rb).sum(), (ra & ~rb).sum()], [(~ra & rb).sum(), (~ra & ~rb).sum()]], exact=True).pvalue
    low, high = mcnemar_extremes(counts(a), counts(b))
    assert low - 1e-9 <= (1.0 if np.isnan(p) else p) <= high + 1e-9


def test_unknown_sizes_of_four_rows_are_searched_in_seconds():
    start = time.perf_counter()
    assert len(implied_sizes(paper_table()[["model", "accuracy"]], bound=100))
    assert implied_sizes(paper_table(), bound=200).iloc[0][["n_pos", "n_neg"]].tolist() == [20, 19]
    check_table(paper_table(), n_pos=400_000, n_neg=380_000)
    assert time.perf_counter() - start < 20


def test_metrics_are_plain_json():
    assert "comparisons" in to_json(check_table(paper_table(), n=39).metrics)
