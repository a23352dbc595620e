"""The label permutation test: what is exchanged, in which folds, how small p can become, and what is said of it."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leuknb.evaluation import permutation, predict
from leuknb.evaluation.splits import cv_splits
from leuknb.core import rng
from leuknb.settings import make_settings

SVM = make_settings(positive="abnormal", classifiers=["svm"], permutations=99)
patients = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["blast", "mature", "both"])), min_size=4, max_size=14)


def cohort(people, seed=0):
    "Labels and groups of patients with some images of one class, or of both."
    g = rng(seed, "cohort")
    labels = [np.full(n, kind) if kind != "both" else g.choice(["blast", "mature"], n) for n, kind in people]
    return np.concatenate(labels), np.repeat(np.arange(len(people)), [n for n, _ in people])


def study(n_patients, each=10, effect=0.0, seed=0):
    "Features and table; patients look alike, classes lie `effect` apart in each of eight numbers."
    r, y = rng(seed, "study", n_patients), np.repeat(np.arange(n_patients) % 2, each)
    X = np.repeat(r.normal(size=(n_patients, 8)), each, 0) + r.normal(size=(len(y), 8)) + effect * y[:, None]
    return X, pd.DataFrame({"file_name": [f"{i:04}.png" for i in range(len(y))],
                            "label": np.where(y, "abnormal", "normal"),
                            "group": np.repeat([f"p{i:02}" for i in range(n_patients)], each)})


@given(patients, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_shuffling_respects_blocks_and_patients(people, seed):
    labels, groups = cohort(people, seed)
    y = (labels == "blast").astype(int)
    fold = groups % 3
    moved = permutation.shuffled(y, fold, groups, rng(seed, "shuffle"))
    for g in set(groups):
        mine = groups == g
        if len(set(y[mine])) == 1: assert len(set(moved[mine])) == 1  # one label stays one label
        else: assert sorted(moved[mine]) == sorted(y[mine])  # several are shuffled inside
    alone = permutation.shuffled(y, fold, None, rng(seed, "shuffle"))
    for f in range(3): assert alone[fold == f].sum() == y[fold == f].sum()


@pytest.mark.parametrize("y, groups", [([0, 0, 1, 1, 1], None), ([0, 0, 1, 1, 2, 2], None),
                                       ([0, 0, 0, 1, 1, 1, 0, 1], [0, 0, 1, 2, 2, 3, 3, 3])])
def test_labellings_are_counted_as_many_as_can_be_drawn(y, groups):
    y, g = np.array(y), rng(0, "count")
    drawn = {tuple(permutation.shuffled(y, np.zeros(len(y)), groups, g)) for _ in range(3000)}
    alike = {d for d in drawn if len({*zip(d, y.tolist())}) == len(set(y))}  # the same parts under other names
    assert permutation.labelling_counts(y, groups) == (len(drawn), len(alike))


def test_every_labelling_has_folds_stratified_by_it_and_no_training_part_lacks_a_class():
    y, groups = np.repeat([0, 1] * 6, 5), np.repeat(np.arange(12), 5)
    batches = permutation.labelling_batches(y, groups, cv_splits(y, groups, 5), 199)
    assert sum(len(rows) for rows, _ in batches) == 200 and (batches[0][0][0] == y).all()
    spread = lambda rows, folds: [{*(np.unique(groups[test][row[test] == 1]).size for row in rows)}
                                  for _, test in folds]
    for rows, folds in batches:
        assert all(len(n) == 1 for n in spread(rows, folds))  # as many patients of a class in a fold, whichever
        assert sorted(n.pop() for n in spread(rows, folds)) == sorted(n.pop() for n in spread(*batches[0]))
        for train, test in folds:
            assert not set(groups[train]) & set(groups[test]) and all(len(set(row[train])) == 2 for row in rows)
    assert len({tuple(row) for rows, _ in batches for row in rows}) > 100  # not the few that one set of folds allows


def test_the_permutation_test_judges_the_first_repeat_of_the_cross_validation():
    X, table = study(16, 3, 1.0)
    p = predict.evaluate(X, table, SVM.model_copy(update={"n_splits": 0, "cv_repeats": 1}))
    result = permutation.permutation_test(X, table, SVM)
    t = p[p.scheme == "cv"]
    assert result["metric"] == "balanced_accuracy"
    assert result["observed"] == pytest.approx((t.label == t.predicted).groupby(t.label).mean().mean())
    assert result["p"] == pytest.approx((1 + (result["null"] >= result["observed"] - 1e-12).sum()) / 100)
    assert len(result["null"]) == 99 and "null" in permutation.permutation_section(result)
    np.testing.assert_array_equal(permutation.permutation_test(X, table, SVM, n_jobs=1)["null"], result["null"])


def test_a_model_that_calls_everything_by_the_larger_class_is_worth_a_half():
    X, table = study(20, 3)
    rare = table.assign(label=np.where(table.group.isin(["p00", "p01"]), "abnormal", "normal"))
    X = np.zeros_like(X)
    result = permutation.permutation_test(X, rare, SVM.model_copy(update={"cv_folds": 2}), n_jobs=1)
    assert result["observed"] == 0.5 and result["p"] == 1.0


@pytest.mark.parametrize("n, smallest", [(6, 0.1), (8, 2 / 70), (10, 2 / 252), (20, 1 / 200)])
def test_a_perfect_model_reaches_about_the_smallest_p_that_the_patients_allow(n, smallest):
    X, table = study(n, 4, effect=20.0)
    found = [permutation.permutation_test(X, table, SVM.model_copy(update={
        "permutations": 199, "cv_folds": min(5, n // 2), "seed": seed}), n_jobs=1) for seed in range(3)]
    assert {r["observed"] for r in found} == {1.0} and found[0]["smallest_p"] == pytest.approx(smallest)
    assert min(r["p"] for r in found) >= smallest and np.mean([r["p"] for r in found]) <= 1.5 * smallest + 0.01
    said = permutation.permutation_sentence(permutation.permutation_section(found[0]))
    assert ("cannot decide" in said) == (n == 6) and ("The labels matter." in said) == (n > 6)


def test_too_few_permutations_decide_nothing_and_none_give_no_p():
    X, table = study(12, effect=20.0)
    few = permutation.permutation_test(X, table, SVM.model_copy(update={"permutations": 10}), n_jobs=1)
    assert few["smallest_p"] == pytest.approx(1 / 11)
    assert "10 shuffled labellings are too few" in permutation.permutation_sentence(few)
    none = permutation.permutation_section(permutation.permutation_test(X, table, SVM.model_copy(
        update={"permutations": 0})))
    assert none["p"] is None and none["null"]["mean"] is None and "not done" in permutation.permutation_sentence(none)


def test_labels_drawn_by_lot_among_patients_give_ordinary_p_values():
    p = []
    for i in range(60):
        X, table = study(12, 5, seed=i)
        p.append(permutation.permutation_test(X, table, SVM.model_copy(update={"permutations": 19, "seed": i}),
                                              n_jobs=1)["p"])
    assert 0.35 < np.mean(p) < 0.7 and np.mean(np.array(p) <= 0.1) <= 0.25


def test_large_sets_are_permuted_on_a_part_with_whole_patients():
    X, table = study(240, 4)
    result = permutation.permutation_test(X, table, SVM.model_copy(update={"permutations": 5}), n_jobs=1)
    assert 380 <= result["n_images"] <= 420 and result["n_labellings"] is None and math.isfinite(result["smallest_p"])
