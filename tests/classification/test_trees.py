"Trees grown on counts: the best cuts, as good as scikit-learn's, in less time, and never the headline's."

import time

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from leuknb.classification import trees
from leuknb.classification.estimators import make_classifier, study_classifiers
from leuknb.classification.fitting import run_folds
from leuknb.classification.trees import best_splits, BINS, count_scores, grown_on_counts, quantile_codes
from leuknb.core import rng
from leuknb.evaluation.splits import cv_splits
from leuknb.settings import make_settings

FOREST, TREE = make_classifier("ensemble")[-1], make_classifier("tree")[-1]


def wide(n=600, d=400, k=2, effect=0.5, seed=0):
    g = rng(seed, "wide", n, d, k)
    y = np.arange(n) % k
    return (g.normal(size=(n, d)) + effect * (g.normal(size=(k, d)) * (g.random(d) < 0.1))[y]).astype(np.float32), y


def worth_of(code, y, cut, k):
    "What a cut is worth, counted one by one."
    halves = [np.bincount(y[side], minlength=k) for side in (code <= cut, code > cut)]
    return sum((h**2).sum() / h.sum() for h in halves) if all(h.sum() for h in halves) else -np.inf


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("n_bins", [BINS, BINS // 4])
def test_the_best_cut_is_the_one_a_search_by_hand_finds(k, n_bins, monkeypatch):
    X, y = wide(150, 12, k)
    codes, _ = quantile_codes(X, X)
    node = rng(1, "nodes").integers(3, size=150)
    features = np.array([[0, 3, 5, 11], [1, 1, 2, 8], [4, 6, 7, 9]])
    found = best_splits(codes, y, np.arange(150), node, features, n_bins, k)
    monkeypatch.setattr(trees, "AT_ONCE", 1)  # a feature at a time
    for whole, apart in zip(found, best_splits(codes, y, np.arange(150), node, features, n_bins, k)):
        np.testing.assert_array_equal(whole, apart)
    for i, (worth, feature, cut) in enumerate(zip(*found)):
        mine = node == i
        best = max(worth_of(codes[mine, f], y[mine], c, k) for f in features[i]
                   for c in range(BINS // n_bins - 1, BINS, BINS // n_bins))
        assert worth == best == worth_of(codes[mine, feature], y[mine], cut, k)


@pytest.mark.parametrize("min_leaf", [1, 7])
def test_no_half_is_smaller_than_it_may_be_and_no_small_node_is_cut(min_leaf):
    X, y = wide(200, 30, effect=0)
    codes, _ = quantile_codes(X, X)
    grown = trees.grow(codes, y, np.arange(200)[None], trees.Growth(2, 30, 20, min_leaf), rng(0, "any"))
    leaf, inner = np.zeros(200, int), grown.feature >= 0
    size = np.bincount(leaf, minlength=len(inner))
    while inner[leaf].any():
        at = np.flatnonzero(inner[leaf])
        assert (size[np.unique(leaf[at])] >= 20).all()
        leaf[at] = grown.child[leaf[at]] + (codes[at, grown.feature[leaf[at]]] > grown.cut[leaf[at]])
        size = np.bincount(leaf, minlength=len(inner))
        assert size[np.unique(leaf)].min() >= min_leaf
    assert inner.sum() > 5


def test_a_forest_is_as_often_right_as_scikit_learn_s_and_a_tree_too():
    X, y = wide(900, 300, 2, 0.35)
    kinds = {"ensemble": {"n_estimators": 30}, "tree": {}}
    for name, params in kinds.items():
        ours, theirs = np.zeros(len(y), int), np.zeros(len(y), int)
        for s, (train, test) in enumerate(cv_splits(y, folds=5)):
            plain = make_classifier(name, seed=s, **params)[-1]
            ours[test] = count_scores(plain, X[train], y[train], X[test]).argmax(1)
            theirs[test] = plain.fit(X[train], y[train]).predict(X[test])
        a, b = (ours == y).sum() - (theirs == y).sum(), (ours != theirs).sum()
        assert 0.6 < (theirs == y).mean() < 0.97 and abs(a) < 3 * np.sqrt(b), name  # McNemar


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_the_same_bits_on_any_number_of_threads(n_jobs):
    X, y = wide(500, 300, 3)
    settings = make_settings(classifiers=["svm", "ensemble", "tree"], params={"ensemble": {"n_estimators": 8}})
    studied, splits = study_classifiers(settings, len(X)), cv_splits(y, folds=3)
    one, more = (run_folds(X, y, splits, studied, seed=4, scheme="cv", n_jobs=n) for n in (1, n_jobs))
    for (s, name, scores, called), other in zip(one, more):
        assert (s, name) == other[:2]
        np.testing.assert_array_equal(scores, other[2])
        np.testing.assert_array_equal(called, other[3])


def test_the_headline_is_scikit_learn_s_own_and_stands_before_what_is_handed_on():
    X, y = wide(500, 300)
    (train, test), = splits = cv_splits(y, folds=3)[:1]
    for first, second in (("ensemble", "tree"), ("tree", "ensemble")):
        studied = study_classifiers(make_settings(classifiers=[first, second],
                                                  params={"ensemble": {"n_estimators": 8}}), len(X))
        found = {name: scores for _, name, scores, _ in run_folds(X, y, splits, studied, scheme="cv")}
        plain = {c.name: c.pipeline for c in studied}
        seeded = run_folds(X, y, splits, [c._replace(beside=False) for c in studied], scheme="cv")
        same = {name: np.array_equal(scores, found[name]) for _, name, scores, _ in seeded}
        assert same == {first: True, second: False} and set(plain) == set(same)


@pytest.mark.parametrize("estimator, shape, yes", [
    (FOREST, (195, 1_488), True), (TREE, (195, 1_488), False), (TREE, (1_548, 1_488), True),
    (FOREST, (17_092, 1_488), True), (FOREST, (195, 42), False),
    (FOREST, (60, 500), False), (FOREST, (20_000, 255), False),
    (RandomForestClassifier(class_weight="balanced"), (2_000, 500), False),
    (RandomForestClassifier(min_samples_leaf=3), (2_000, 500), False),
    (DecisionTreeClassifier(min_samples_split=0.1), (2_000, 500), False),
    (DecisionTreeClassifier(min_samples_leaf=5), (2_000, 500), True),
    (make_classifier("svm")[-1], (2_000, 500), False)])
def test_only_what_is_known_here_is_grown_here(estimator, shape, yes):
    assert grown_on_counts(estimator, *shape) is yes
    few = type(estimator) is RandomForestClassifier and shape[0] < 2_000  # rows for four classes
    assert grown_on_counts(estimator, *shape, n_classes=4) is (yes and not few)


@pytest.mark.parametrize("name, most", [("ensemble", 0.6), ("tree", 0.6)])
def test_it_takes_less_time(name, most):
    X, y = wide(1_200, 1_000)
    plain = make_classifier(name, seed=1, **({"n_estimators": 20} if name == "ensemble" else {}))[-1]
    def cost(work):
        start = time.process_time()
        work()
        return time.process_time() - start
    ours, theirs = (min(cost(work) for _ in range(2)) for work in (
        lambda: count_scores(plain, X[:1_000], y[:1_000], X[1_000:]), lambda: plain.fit(X[:1_000], y[:1_000])))
    assert ours < most * theirs


def test_a_class_that_a_fold_never_saw_ranks_below_the_others():
    X, y = wide(500, 300, 3)
    studied = study_classifiers(make_settings(classifiers=["svm", "ensemble"],
                                              params={"ensemble": {"n_estimators": 5}}), len(X))
    split = [(np.flatnonzero(y != 1), np.flatnonzero(y == 1)[:9])]
    _, (_, _, scores, called) = run_folds(X, y, split, studied, scheme="cv", n_classes=3)
    assert (scores.argmin(1) == 1).all() and set(called) <= {0, 2}
