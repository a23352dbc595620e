"""Fits of a whole study: shared tables equal the plain way, and one classifier serves folds, tuning and final model."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import LinearSVC, SVC
from threadpoolctl import threadpool_limits

from leuknb.classification import estimators
from leuknb.classification.estimators import class_scores, FOUR, make_classifier, study_classifier
from leuknb.classification.fitting import forest_scores, kind, run_folds, run_labellings
from leuknb.core import rng, stream_seed
from leuknb.evaluation import splits as splitting

FEW_TREES = {"ensemble": {"n_estimators": 10}}


def features(n=80, d=300, k=2, seed=0, dtype=np.float32):
    g = rng(seed, "test features", n, d, k)
    y = np.arange(n) % k
    return np.maximum(0, g.normal(size=(n, d)) + (g.normal(size=(k, d)) * (g.random(d) < 0.05))[y]).astype(dtype), y


def made(names, n, params=None):
    "Classifiers of a study on n images."
    return [study_classifier(name, n, (params or {}).get(name)) for name in names]


# shortcuts against the plain way

@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name,params", [("svm", {}), ("svm", {"C": 0.01}), ("svm", {"standardize": False}),
                                         ("svm", {"class_weight": "balanced"}), ("knn", {}),
                                         ("knn", {"n_neighbors": 4}),
                                         ("knn", {"n_neighbors": 3, "weights": "distance"}),
                                         ("knn", {"standardize": True}), ("ensemble", {"n_estimators": 20}),
                                         ("tree", {}),
                                         ("sklearn.linear_model.LogisticRegression", {})])
def test_every_fold_equals_the_plain_pipeline(name, params, dtype, k):
    X, y = features(k=k, dtype=dtype)
    splits = splitting.cv_splits(y, folds=4)
    for s, _, scores, called in run_folds(X, y, splits, made([name], len(X), {name: params}), seed=5, scheme="cv"):
        train, test = splits[s]
        with threadpool_limits(1):
            plain = make_classifier(name, seed=stream_seed(5, name, "cv", s), **params).fit(X[train], y[train])
        np.testing.assert_array_equal(called, plain.predict(X[test]))
        np.testing.assert_allclose(scores, class_scores(plain, X[test]), atol=1e-6, rtol=0)


def test_the_shortcuts_are_taken_for_the_four_and_equal_on_many_features():
    X, y = features(195, 9216)
    assert [kind(make_classifier(n), len(X)) for n in FOUR] == ["gram", "distances", "plain", "plain"]
    splits = splitting.cv_splits(y, folds=5)[:2]
    for s, name, scores, called in run_folds(X, y, splits, made(["svm", "knn"], len(X)), scheme="cv"):
        train, test = splits[s]
        plain = make_classifier(name).fit(X[train], y[train])
        np.testing.assert_array_equal(called, plain.predict(X[test]))
        np.testing.assert_allclose(scores, class_scores(plain, X[test]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weighed_blocks_give_what_scikit_learn_s_pipeline_gives_in_every_fold_and_labelling(k, dtype):
    X, y = features(90, 60, k)
    X, params = (X * rng(1, "scales").uniform(0.01, 50, 60)).astype(dtype), {"C": 1.0, "blocks": [7, 50, 3]}
    assert kind(make_classifier("svm", **params), len(X)) == "gram"
    splits = splitting.cv_splits(y, folds=3)
    permuted = run_labellings(X, [(np.stack([y, y[::-1]]), splits)], study_classifier("svm", len(X), params), seed=2)
    for s, _, scores, called in run_folds(X, y, splits, made(["svm"], len(X), {"svm": params}), scheme="cv"):
        train, test = splits[s]
        plain = make_classifier("svm", **params).fit(X[train], y[train])
        np.testing.assert_allclose(scores, class_scores(plain, X[test]), atol=1e-5, rtol=0)
        np.testing.assert_array_equal(called, plain.predict(X[test]))
        for labels, ours in zip((y, y[::-1]), permuted):
            np.testing.assert_array_equal(ours[test],
                                          make_classifier("svm", **params).fit(X[train],
                                              labels[train]).predict(X[test]))


@pytest.mark.parametrize("d", [1, 3, 40])
def test_the_gram_matrix_serves_classes_that_overlap_as_well(d):
    g = rng(d, "overlap")
    y = np.arange(150) % 2
    X = g.normal(size=(150, d)) + 0.3 * y[:, None]
    (_, _, scores, called), = run_folds(X, y, [(np.arange(110), np.arange(110, 150))], made(["svm"], len(X)))
    plain = make_classifier("svm").fit(X[:110], y[:110])
    np.testing.assert_allclose(scores, class_scores(plain, X[110:]), atol=1e-6, rtol=0)
    np.testing.assert_array_equal(called, plain.predict(X[110:]))


@pytest.mark.parametrize("params", [{}, {"max_features": 0.3}, {"max_depth": 2},
                                    {"min_samples_leaf": 4, "criterion": "entropy"}, {"max_leaf_nodes": 5},
                                    {"ccp_alpha": 0.02}])
@pytest.mark.parametrize("k", [2, 5])
def test_a_forest_equals_scikit_learn_s_bit_by_bit(params, k):
    X, y = features(90, 60, k)
    forest = RandomForestClassifier(15, random_state=11, **params)
    ours = forest_scores(forest, np.asfortranarray(X[:70]), y[:70], np.asfortranarray(X[70:]))
    np.testing.assert_array_equal(ours, clone(forest).fit(X[:70], y[:70]).predict_proba(X[70:]))


@pytest.mark.parametrize("name", ["svm", "knn", "tree"])
def test_permuted_labellings_equal_a_plain_loop(name):
    X, y = features(60, 100)
    splits = splitting.cv_splits(y, folds=3)
    labellings = np.stack([rng(0, "l", i).permutation(y) for i in range(4)])
    ours = run_labellings(X, [(labellings, splits)], study_classifier(name, len(X)), seed=2)
    for f, (train, test) in enumerate(splits):
        for i, labels in enumerate(labellings):
            plain = make_classifier(name, seed=stream_seed(2, name, "cv", f)).fit(X[train], labels[train])
            np.testing.assert_array_equal(ours[i, test], plain.predict(X[test]))



def test_every_fit_of_a_large_set_is_of_one_machine_also_where_a_fold_is_small(monkeypatch):
    from leuknb.evaluation.predict import evaluate, labelled_images
    from leuknb.explanation.examples import refit_holdout
    from leuknb.modeling.training import check_held_out, fit_all
    from leuknb.settings import make_settings

    fits, plain, primal = [], SVC.fit, LinearSVC.fit
    monkeypatch.setattr(SVC, "fit", lambda self, X, *rest: fits.append(("libsvm", len(X))) or plain(self, X, *rest))
    monkeypatch.setattr(LinearSVC, "fit", lambda self, X,
                        *rest: fits.append(("primal", len(X))) or primal(self, X, *rest))
    X, g = rng(0, "large").normal(size=(60, 4)), np.arange(60) // 3
    table = pd.DataFrame({"file_name": [f"{i}.png" for i in range(60)], "label": np.where(g % 2, "b", "a"),
                          "group": [f"p{i}" for i in g]})
    settings = make_settings(positive="b", classifiers=["svm"], tune=True, cv_folds=3, cv_repeats=1, n_splits=2)
    for limit, machine in ((50, "primal"), (60, "libsvm")):  # a fold holds 40 images, an inner one 27
        monkeypatch.setattr(estimators, "PRIMAL", limit)
        fits.clear()
        predictions, who = evaluate(X, table, settings, n_jobs=1), labelled_images(table, settings)
        refit_holdout(table, settings, X, predictions)
        svm, folds = estimators.study_classifiers(settings, 60)[0], splitting.cv_splits(who.label, who.groups, 3)
        fit_all(X, who, folds, svm, settings)
        check_held_out(X, np.random.default_rng(0).normal(size=(60, 42)), who, folds, svm, settings)
        assert {m for m, _ in fits} == {machine} and min(n for _, n in fits) < 30 and max(n for _, n in fits) == 60


def test_the_classifier_of_a_study_is_left_as_it_is_by_its_fits():
    X, y = features(60, 40)
    for name in FOUR:
        one = study_classifier(name, len(X))
        before = repr(one.pipeline.get_params())
        run_folds(X, y, splitting.cv_splits(y, folds=3), [one], inner=lambda train: [(train[::2], train[1::2])])
        assert repr(one.pipeline.get_params()) == before and not hasattr(one.pipeline[-1], "classes_")


def test_the_number_of_threads_changes_no_bit():
    X, y = features(100, 2000)
    splits = splitting.cv_splits(y, folds=5)
    runs = []
    for jobs, blas in ((1, 1), (2, 1), (2, 2)):
        with threadpool_limits(blas): runs.append(run_folds(X, y, splits, made(FOUR, len(X), FEW_TREES), n_jobs=jobs))
    for other in runs[1:]:
        for a, b in zip(runs[0], other):
            assert a[:2] == b[:2] and np.array_equal(a[2], b[2]) and np.array_equal(a[3], b[3])


def test_a_class_missing_from_training_ranks_last_and_is_never_called():
    X, y = features(60, 40, 3)
    train, test = np.flatnonzero(y[:45] < 2), np.arange(45, 60)
    for _, _, scores, called in run_folds(X, y, [(train, test)], made(FOUR, len(X), FEW_TREES), n_classes=3):
        assert scores.shape == (15, 3) and (called < 2).all() and (scores.argmin(1) == 2).all()


# augmented copies

@pytest.mark.parametrize("name", [*FOUR, "sklearn.linear_model.LogisticRegression"])
def test_augmented_copies_of_test_images_are_never_used(name):
    X, y = features(60, 40)
    g = rng(0, "copies")
    copies = [X + g.normal(size=X.shape).astype(np.float32) for _ in range(2)]
    splits = splitting.cv_splits(y, folds=3)
    before = run_folds(X, y, splits, made([name], len(X), FEW_TREES), copies=copies)
    for s, (train, test) in enumerate(splits):
        spoilt = [c.copy() for c in copies]
        for c in spoilt: c[test] = 1e6
        np.testing.assert_array_equal(run_folds(X, y, splits, made([name], len(X), FEW_TREES), copies=spoilt)[s][2],
                                      before[s][2])
        # on top of test images of the other class
        for c in spoilt: c[train] = X[[g.choice(test[y[test] != y[i]]) for i in train]]
        assert not np.array_equal(run_folds(X, y, splits, made([name], len(X), FEW_TREES), copies=spoilt)[s][2],
                                  before[s][2])


def test_training_rows_get_their_copies_and_test_rows_do_not():
    X, y = features(60, 40)
    copies = [X + 0.5, X - 0.5]
    train, test = splits = splitting.random_splits(y)[0]
    (_, _, scores, _), = run_folds(X, y, [splits], made(["svm"], len(X)), copies=copies)
    plain = make_classifier("svm").fit(np.concatenate([X[train], *(c[train] for c in copies)]), np.tile(y[train], 3))
    np.testing.assert_allclose(scores, class_scores(plain, X[test]), atol=1e-6, rtol=0)
