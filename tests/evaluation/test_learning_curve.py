"""Learning curve: who learns, who is tested, the fit, the forecast where the truth is known, the sample size."""

import numpy as np
import pytest
from hypothesis import given, settings as limits, strategies as st

from leuknb.settings import make_settings
from leuknb.evaluation.intervals import wilson
from leuknb.evaluation.learning_curve import (
    auroc_images, curve_section, fit_power_law, forecast, images_worth, measure_curve, resampled, sample_size, SIZES,
    slope_images, smaller_folds, units_needed)
from leuknb.evaluation.predict import evaluate, labelled_images, made_up_study
from leuknb.evaluation.schemes import cv_metrics
from leuknb.evaluation.splits import cv_splits

SETTINGS = make_settings(positive="abnormal", classifiers=["svm"], learning_curve=3, cv_repeats=1, n_splits=0)


@pytest.fixture(scope="module")
def made_up(): return made_up_study(effect=2)


@pytest.fixture(scope="module")
def curve(made_up): return measure_curve(*made_up, SETTINGS)


def test_smaller_sets_lie_in_larger_ones_of_the_same_draw_and_no_patient_is_on_both_sides(made_up):
    who = labelled_images(made_up[1], SETTINGS)
    folds = cv_splits(who.label, who.groups, 5, 1, 0)
    small = smaller_folds(who, folds, 2)
    by = {(s, d, tuple(test)): set(train) for s, d, train, test in small}
    for (s, d, test), train in by.items():
        assert not set(who.groups[list(train)]) & set(who.groups[list(test)])
        if s < SIZES - 2: assert train <= by[s + 1, d, test]
    assert [set(a) for s, _, a, _ in small if s == SIZES - 1] == [set(train) for train, _ in folds]


def test_all_patients_are_what_the_cross_validation_says(made_up, curve):
    found = cv_metrics(evaluate(*made_up, SETTINGS), "abnormal")["models"]["svm"]
    assert curve.values["balanced_accuracy"][-1][0] == pytest.approx(found["balanced_accuracy"]["value"])
    assert curve.values["auroc"][-1][0] == pytest.approx(found["auroc"]["value"])


def test_the_same_seed_gives_the_same_curve_on_any_number_of_threads(made_up, curve):
    again = measure_curve(*made_up, SETTINGS, n_jobs=1)
    assert again.values == curve.values
    assert curve_section(again, "svm") == curve_section(curve, "svm")


def test_images_without_patients_are_the_units(made_up):
    X, table = made_up
    curve = measure_curve(X, table.drop(columns="group"), SETTINGS)
    assert curve.units == "images" and curve.n_units[-1] == 156


def test_many_classes_have_a_curve(made_up):
    X, table = made_up_study(3, effect=2)
    section = curve_section(measure_curve(X, table, SETTINGS.model_copy(update={"positive": None})), "svm")
    assert all(1 / 4 < p["balanced_accuracy"]["value"] <= 1 for p in section["points"])


@limits(max_examples=50, deadline=None)
@given(st.floats(0.6, 1), st.floats(0.05, 1.0), st.floats(0.2, 1.5))
def test_a_power_law_is_found_again(a, b, c):
    n = np.array([5, 8, 12, 18, 27, 40])
    law = fit_power_law(n, a - b * n**-c)
    assert law(80)[0] == pytest.approx(a - b * 80.0**-c, abs=0.01) and law.a[0] <= 1


def test_a_curve_that_falls_is_flat():
    n = np.array([5, 8, 12, 18, 27, 40])
    law = fit_power_law(n, 0.9 - 0.001 * n)
    assert law.b[0] == 0 and law(1000)[0] == pytest.approx((0.9 - 0.001 * n).mean())


def test_guessing_is_not_said_to_gain(made_up):
    X, table = made_up
    shuffled = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    assert forecast(measure_curve(shuffled, table, SETTINGS)).says in ("none", "unknown")


def test_samples_are_centred_and_wider_with_fewer_draws_seen(curve):
    samples = resampled(curve, "balanced_accuracy", 1)
    assert np.allclose(samples.mean(0), [np.mean(v) for v in curve.values["balanced_accuracy"]], atol=0.03)
    assert (samples >= 0).all() and (samples <= 1).all()


@pytest.mark.parametrize("value,n", [(0.5, 40), (0.9, 100), (0.98, 30)])
def test_images_worth_turns_wilson_around(value, n):
    low, high = wilson(value * n, n)
    assert images_worth(value, (high - low) / 2) == pytest.approx(n, rel=1e-6)


def test_needed_patients_by_hand():
    low, high = map(float, wilson(80, 100))
    got = units_needed({"value": 0.8, "ci": [low, high], "n": 20}, 300)
    assert got["design_effect"] == pytest.approx(3)
    assert got["needed"] == pytest.approx(20 * images_worth(0.8, 0.05) / 100, abs=1)
    assert abs(images_worth(0.8, 0.05) - 0.16 / (0.05 / 1.96) ** 2) < 6  # Riley et al. 2021 with the normal interval
    assert units_needed({"value": 0.8, "n": 20}, 300) is None


def test_the_rarer_class_decides_and_a_missing_interval_says_nothing():
    low, high = map(float, wilson(80, 100))
    rates = {"sensitivity": {"value": 0.8, "ci": [low, high], "n": 5}, "specificity": {"value": 0.8, "ci": [low, high],
                                                                                     "n": 35}}
    need = sample_size(rates, {"a": 350, "b": 50}, "b", 40)
    assert need["total"] == pytest.approx(40 * need["sensitivity"]["needed"] / 5, abs=1)
    assert sample_size(rates | {"sensitivity": {"value": 1.0, "n": 5}}, {"a": 350, "b": 50}, "b", 40)["total"] is None


def test_images_for_an_auroc_by_newcombes_standard_error():
    n, a, share = auroc_images(0.8, 0.1, 0.05), 0.8, 0.1
    se = np.sqrt(a * (1 - a) * (1 + (n / 2 - 1) * ((1 - a) / (2 - a) + a / (1 + a))) / (n**2 * share * (1 - share)))
    assert 1.959964 * se == pytest.approx(0.05, rel=1e-4)
    assert auroc_images(0.8, 0.1, 0.025) == pytest.approx(4 * n, rel=0.02)


def test_images_for_a_slope_by_the_information_matrix():
    p = np.random.default_rng(0).beta(1, 2, 500)
    design = np.c_[np.ones(500), np.log(p / (1 - p))]
    covariance = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))  # of 500 images
    n = slope_images(p, 1.959964 * np.sqrt(covariance[1, 1]))
    assert n == pytest.approx(500, rel=1e-4)
    assert slope_images(p, 0.1) > slope_images(p, 0.2)


def test_auroc_and_slope_stand_beside_the_rates_where_known():
    low, high = map(float, wilson(80, 100))
    rates = {m: {"value": 0.8, "ci": [low, high], "n": 20} for m in ("sensitivity", "specificity", "auroc")}
    p = np.random.default_rng(0).beta(1, 2, 400)
    slope = {"value": 1, "ci": [0.5, 1.5], "n": 40}
    need = sample_size(rates, {"a": 350, "b": 50}, "b", 40, slope=slope, probability=p)
    assert need["slope"]["needed"] == 40 * 25 and need["slope_half_width"] == 0.1
    assert need["auroc"]["needed"] > 20 and need["auroc"]["design_effect"] > 1
    none = sample_size({m: rates[m] for m in ("sensitivity", "specificity")}, {"a": 350, "b": 50}, "b", 40)
    assert none["auroc"] is None and none["slope"] is None
