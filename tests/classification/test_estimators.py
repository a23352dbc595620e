"""The classifiers by name: what is accepted, what is refused, and that nothing leaks past the pipeline."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted

from leuknb.classification.estimators import (
    accepted_params, BlockScaler, class_scores, FOUR, GRIDS, make_classifier, MODEL_NAMES, model_name,
    OTHERS, scores, tuning_grid)
from leuknb.core import InputError
from leuknb.settings import PRESETS

X, Y = make_classification(120, 12, n_informative=4, random_state=0)
FAST = {"sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 5},
        "sklearn.neural_network.MLPClassifier": {"max_iter": 300, "hidden_layer_sizes": [8]},
        "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 5},
        "sklearn.neighbors.KNeighborsClassifier": {"n_neighbors": 3}}


@pytest.mark.parametrize("name", [*FOUR, *OTHERS])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_named_classifier_fits_clones_and_gives_one_score_per_image(name):
    model = clone(make_classifier(name, seed=1, **FAST.get(name, {})))
    assert isinstance(model, Pipeline)
    model.fit(X[:90], Y[:90])
    s = scores(model, X[90:])
    assert s.shape == (30,) and np.isfinite(s).all()
    assert np.corrcoef(s, model.predict(X[90:]))[0, 1] > 0.3  # a higher score means more like class 1
    again = make_classifier(name, seed=1, **FAST.get(name, {})).fit(X[:90], Y[:90])
    assert np.array_equal(s, scores(again, X[90:]))


@pytest.mark.parametrize("name", [*FOUR, *OTHERS])
def test_every_accepted_parameter_is_accepted_at_its_default(name):
    model = make_classifier(name)
    for p in accepted_params(name):
        if p not in ("standardize", "blocks", "method"): make_classifier(name, **{p: model["classify"].get_params()[p]})


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_other_text_is_refused_and_never_imported(name):
    if name in FOUR or name in OTHERS: return
    with pytest.raises(InputError): make_classifier(name)


@pytest.mark.parametrize("name", ["os.system", "sklearn.svm", "leuknb.settings.Settings",
                                  "sklearn.ensemble.StackingClassifier", ""])
def test_importable_names_outside_the_list_are_refused(name):
    with pytest.raises(InputError, match="is not known"): make_classifier(name)


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'ensemble'"): make_classifier("ensembel")


def test_an_unknown_parameter_is_answered_with_the_accepted_ones():
    with pytest.raises(InputError, match="n_neighbors.*did you mean 'n_neighbors'"):
        make_classifier("knn", n_neighbour=3)


@pytest.mark.parametrize("name,params", [("svm", {"C": -1}), ("svm", {"C": "much"}), ("knn", {"n_neighbors": 0}),
                                         ("tree", {"criterion": "ginni"}),
                                         ("ensemble", {"method": "vote"}), ("svm", {"standardize": "maybe"}),
                                         ("knn", {"metric": "precomputed"})])
def test_a_bad_value_is_refused_before_any_fit(name, params):
    with pytest.raises(InputError): make_classifier(name, **params)


@pytest.mark.parametrize("param", ["random_state", "n_jobs", "probability"])
def test_what_the_run_decides_is_no_parameter(param):
    with pytest.raises(InputError): make_classifier("svm", **{param: 1})


def test_the_scaler_sees_training_rows_only():
    model = make_classifier("svm").fit(X[:60], Y[:60])
    check_is_fitted(model["scale"])
    np.testing.assert_allclose(model["scale"].mean_, X[:60].mean(0))


def test_the_defaults_are_those_of_the_paper_s_software():
    assert (make_classifier("svm")["classify"].kernel, make_classifier("svm")["classify"].C) == ("linear", 1.0)
    assert make_classifier("knn")["classify"].n_neighbors == 1
    assert make_classifier("ensemble")["classify"].n_estimators == 100
    assert (make_classifier("tree")["classify"].criterion,
            make_classifier("tree")["classify"].min_samples_split) == ("gini", 10)


def test_the_two_columns_of_a_two_class_score_mirror_each_other():
    model = make_classifier("svm").fit(X, Y)
    np.testing.assert_array_equal(class_scores(model, X)[:, 0], -class_scores(model, X)[:, 1])


@pytest.mark.parametrize("name", [*GRIDS])
def test_tuning_starts_at_the_default_and_leaves_fixed_parameters_alone(name):
    default = make_classifier(name)["classify"].get_params()
    first = tuning_grid(name, {})[0]
    assert all(default[k] == v for k, v in first.items())
    fixed = {next(iter(first)): 3}
    assert tuning_grid(name, fixed) == [{}]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_every_block_adds_the_same_to_the_length_of_a_row(widths, seed):
    X = np.random.default_rng(seed).normal(3, 2, (25, sum(widths))) * np.random.default_rng(seed + 1).uniform(0.01, 100,
        sum(widths))
    Z = BlockScaler(widths).fit_transform(X)
    each = np.add.reduceat((Z**2).sum(0), np.r_[0, np.cumsum(widths)[:-1]]) / len(X)
    np.testing.assert_allclose(each, 1 / len(widths))
    plain = (X - X.mean(0)) / X.std(0) / np.sqrt(np.repeat(widths, widths) * len(widths))  # written out anew
    np.testing.assert_allclose(Z, plain, atol=1e-9)


def test_weighed_blocks_can_be_learned_in_parts_undone_and_cloned():
    scaler = BlockScaler([2, 10])
    whole, parts = clone(scaler).fit(X), clone(scaler).partial_fit(X[:50]).partial_fit(X[50:])
    np.testing.assert_allclose(whole.scale_, parts.scale_)
    np.testing.assert_allclose(whole.inverse_transform(whole.transform(X)), X)
    assert clone(scaler).blocks == [2, 10]
    # a column that never varies
    assert np.isfinite(BlockScaler([2, 10]).fit_transform(np.c_[np.ones(120), X[:, 1:]])).all()


def test_the_support_vector_machine_behind_weighed_blocks_is_linear_in_the_features():
    model = make_classifier("svm", blocks=[2, 10]).fit(X, Y)
    scale, svm = model["scale"], model["classify"]
    weights = svm.coef_[0] / scale.scale_
    np.testing.assert_allclose(X @ weights + svm.intercept_[0] - scale.mean_ @ weights, model.decision_function(X),
                               atol=1e-10)


def test_blocks_of_another_width_are_refused_with_the_mend():
    with pytest.raises(InputError, match="hold 11 columns, the features have 12.*block_widths"):
        make_classifier("svm", blocks=[1, 10]).fit(X, Y)


def test_the_presets_weigh_all_columns_alike_however_many_there_are():
    for preset in ("demo", "best"):
        scaler = make_classifier("svm", **PRESETS[preset]["params"]["svm"]).fit(X, Y)["scale"]
        assert np.isclose((scaler.transform(X) ** 2).sum(1).mean(), 1)


def test_every_classifier_of_the_paper_has_one_name_for_people_and_no_two_share_one():
    assert [model_name(n) for n in FOUR] == ["linear SVM", "k-nearest neighbours", "ensemble of trees", "decision tree"]
    assert list(MODEL_NAMES) == list(FOUR) and len({model_name(n) for n in [*FOUR, *OTHERS]}) == len(FOUR) + len(OTHERS)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_the_scaler_of_blocks_keeps_the_contract_of_scikit_learn():
    check_estimator(BlockScaler())
