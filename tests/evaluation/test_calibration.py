"""Calibration and decision curves against scikit-learn, hand-worked numbers and properties."""
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from leuknb.evaluation import calibration
from leuknb.evaluation import thresholds
from leuknb.evaluation import plots as evaluation_plots
from leuknb.core import InputError

quick = settings(max_examples=30, deadline=None)


def study(seed=0, n=120, groups=24):
    r = np.random.default_rng(seed)
    patient = np.arange(n) * groups // n
    y = (patient % 2).astype(int)
    return y, 2 * y + 0.5 * r.standard_normal(groups)[patient] + r.standard_normal(n), np.array([f"p{g:03}"
        for g in patient])


@quick
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_sigmoid_agrees_with_weighted_logistic_regression(seed, scale, shift):
    y, score, _ = study(seed)
    n1, n0 = y.sum(), (1 - y).sum()
    high, low = (n1 + 1) / (n1 + 2), 1 / (n0 + 2)
    soft = np.where(y == 1, high, low)  # a soft target is two weighted images
    x = np.r_[score, score][:, None]
    model = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(x, np.r_[np.ones(len(y)), np.zeros(len(y))],
        np.r_[soft, 1 - soft])
    ours = calibration.fit_calibrator(scale * score + shift, y)(scale * score + shift)
    np.testing.assert_allclose(ours, model.predict_proba(score[:, None])[:, 1], atol=1e-4)


def test_sigmoid_stays_finite_for_separable_and_equal_scores():
    apart = calibration.fit_calibrator([-1e6, -1e6, 1e6, 1e6], [0, 0, 1, 1])
    assert 0 < float(apart(-1e6)) < 0.5 < float(apart(1e6)) < 1
    assert float(calibration.fit_calibrator([3.0] * 8,
                                            [0] * 6 + [1] * 2)(3.0)) == pytest.approx(np.mean([1 / 8] * 6
                                                + [3 / 4] * 2))


@pytest.mark.parametrize("kind", calibration.KINDS)
def test_a_calibrator_survives_json_and_never_reverses_the_order(kind):
    y, score, _ = study()
    fitted = calibration.fit_calibrator(score, y, kind)
    again = calibration.Calibrator.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert np.all(np.diff(fitted(np.sort(score))) >= 0)
    for bad in ({}, {"kind": "sigmoid", "x": [], "p": []}, {"kind": kind, "x": [math.inf], "p": [0]},
                {"kind": kind, "x": "ab", "p": [1, 2]}, {"kind": "isotonic", "x": [2, 1], "p": [0, 1]}):
        with pytest.raises(InputError): calibration.Calibrator.from_dict(bad)


@pytest.mark.parametrize("kind", calibration.KINDS)
def test_a_folds_probabilities_do_not_change_with_its_own_labels(kind):
    y, score, groups = study()
    fold = np.arange(120) // 10 % 4  # two patients, one of each class, after the other
    turned = np.where(fold == 2, 1 - y, y)
    one, other = (calibration.cross_calibrated(labels, score, fold, groups, kind) for labels in (y, turned))
    np.testing.assert_array_equal(one[fold == 2], other[fold == 2])
    assert not np.array_equal(one[fold != 2], other[fold != 2])


def test_folds_made_here_keep_patients_whole_and_are_repeatable():
    y, score, groups = study()
    fold = calibration._folds(y, groups, 5, seed=3)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    np.testing.assert_array_equal(calibration.cross_calibrated(y, score, groups=groups, seed=3),
                                  calibration.cross_calibrated(y, score, groups=groups, seed=3))


def test_every_fold_made_here_learns_from_both_classes_whatever_the_seed_and_few_patients():
    y, groups = np.repeat([0, 1, 1], [30, 4, 8]), np.repeat(np.arange(10), [6, 6, 6, 6, 6, 4, 2, 2, 2, 2])
    score = y + np.random.default_rng(0).normal(size=42)
    for seed in range(50):
        fold = calibration._folds(y, groups, 5, seed)
        assert all(len(set(y[fold != f])) == 2 for f in range(5)) and len(set(fold)) == 5
        assert np.isfinite(calibration.cross_calibrated(y, score, groups=groups, seed=seed)).all()
    two = np.array(["a", "b"])[(np.arange(42) > 29).astype(int)]  # one patient of each class: no fold can learn both
    with pytest.raises(InputError, match="one group"): calibration.cross_calibrated(y, score, groups=two)


def test_calibration_that_would_leak_is_refused():
    y, score, groups = study()
    with pytest.raises(InputError, match="two folds"):
        calibration.cross_calibrated(y, score, np.arange(120) % 5, groups)
    with pytest.raises(InputError, match="one fold"): calibration.cross_calibrated(y, score, np.zeros(120))
    with pytest.raises(InputError, match="both classes"): calibration.cross_calibrated(y, score, y)


@quick
@given(st.integers(0, 10_000))
def test_brier_agrees_with_scikit_learn(seed):
    r = np.random.default_rng(seed)
    y, p = r.integers(0, 2, 50), r.random(50)
    assert calibration.brier(y, p) == pytest.approx(brier_score_loss(y, p))


@quick
@given(st.integers(0, 10_000), st.integers(1, 12), st.booleans())
def test_ece_agrees_with_a_loop_and_not_with_the_order_of_images(seed, n_bins, ties):
    r = np.random.default_rng(seed)
    y, p = r.integers(0, 2, 60), r.random(60).round(1 if ties else 9)
    order = r.permutation(60)
    assert calibration.ece(y, p, n_bins) == pytest.approx(calibration.ece(y[order], p[order], n_bins))
    if not ties:
        parts = np.array_split(np.argsort(p), n_bins) if 60 % n_bins == 0 else None
        if parts:
            assert calibration.ece(y, p, n_bins) == pytest.approx(sum(abs(y[i].mean() - p[i].mean()) * len(i)
                for i in parts) / 60)


def test_perfectly_calibrated_probabilities_show_the_error_that_chance_predicts():
    r = np.random.default_rng(0)
    p = r.random(195)
    seen = np.mean([calibration.ece(r.random(195) < p, p) for _ in range(300)])
    assert calibration.ece_by_chance(p) == pytest.approx(seen, rel=0.05)


def test_reliability_counts_every_image_once_and_intervals_hold_the_share():
    y, score, groups = study()
    p = calibration.cross_calibrated(y, score, groups=groups)
    for g in (None, groups):
        curve = calibration.reliability_curve(y, p, groups=g)
        assert curve.n.sum() == 120 and (np.diff(curve.predicted) > 0).all()
        assert (curve.low <= curve.observed + 1e-12).all() and (curve.observed <= curve.high + 1e-12).all()
        assert np.average(curve.observed, weights=curve.n) == pytest.approx(y.mean())


def test_the_interval_of_a_mean_lies_in_the_unit_interval_and_grows_when_images_of_a_patient_err_alike():
    y, score, groups = study()
    p = calibration.cross_calibrated(y, score, groups=groups)
    e = calibration.mean_interval((p - y) ** 2, groups)
    assert 0 < e.low < e.value < e.high < 1 and e.value == pytest.approx(calibration.brier(y, p)) and e.n == 24
    alike = calibration.mean_interval(np.repeat((p - y)[::5] ** 2, 5), groups)
    as_one = calibration.mean_interval((p - y)[::5] ** 2)
    assert (alike.low, alike.high) == pytest.approx((as_one.low, as_one.high))
    assert calibration.mean_interval([0.2, 0.4], ["a", "a"]).ci == [0, 1]
    assert calibration.mean_interval(np.zeros(5)).ci is None and math.isnan(calibration.mean_interval([]).value)


@quick
@given(st.integers(0, 10_000), st.floats(0.3, 3), st.floats(-1, 1))
def test_slope_and_intercept_are_those_of_an_unpenalised_logistic_regression(seed, slope, shift):
    y, score, groups = study(seed)
    p = 1 / (1 + np.exp(-(slope * (score - 1) + shift)))
    logit = np.log(p / (1 - p))
    by_hand = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(logit[:, None], y)
    found = calibration.calibration_slope(y, p, groups)
    assert found["slope"].value == pytest.approx(by_hand.coef_[0, 0], rel=1e-3)
    at = found["intercept"].value
    assert np.mean(1 / (1 + np.exp(-(at + logit)))) == pytest.approx(y.mean())  # what calibration in the large asks
    assert all(e.low < e.value < e.high and e.n == 24 for e in found.values())


def test_slope_of_extreme_probabilities():
    y, score, groups = study()
    apart = calibration.calibration_slope(y, 0.98 * y + 0.01, groups)
    assert math.isnan(apart["slope"].value) and apart["slope"].ci is None and math.isfinite(apart["intercept"].value)
    constant = calibration.calibration_slope(y, np.full(120, 0.3), groups)
    assert math.isnan(constant["slope"].value)
    assert constant["intercept"].value == pytest.approx(np.log(y.mean() / (1 - y.mean())) - np.log(0.3 / 0.7))
    one = calibration.calibration_slope(np.ones(5, int), np.full(5, 0.5))
    assert all(math.isnan(e.value) for e in one.values())
    sure = calibration.calibration_slope(np.r_[y, 1], np.r_[1 / (1 + np.exp(-score)), 0.0])  # sure and wrong
    assert math.isfinite(sure["slope"].value)


def test_metrics_of_the_probabilities_are_estimates_and_the_error_has_no_interval():
    y, score, groups = study()
    p = calibration.cross_calibrated(y, score, groups=groups)
    found = calibration.calibration_metrics(y, p, groups, "copy groups")
    assert {k: (v.n, v.units) for k, v in found.items()} == dict.fromkeys(("brier", "ece", "slope", "intercept"),
                                                                          (24, "copy groups"))
    assert found["ece"].ci is None and found["ece"].value == calibration.ece(y, p)


def test_net_benefit_by_hand():
    y, p = [1, 1, 0, 0, 0], [0.9, 0.3, 0.6, 0.2, 0.1]
    curve = thresholds.decision_curve(y, p, [0.25, 0.5])
    np.testing.assert_allclose(curve.model, [2 / 5 - 1 / 5 / 3, 1 / 5 - 1 / 5])
    np.testing.assert_allclose(curve["all"], [2 / 5 - 3 / 5 / 3, 2 / 5 - 3 / 5])


@quick
@given(st.integers(0, 10_000), st.floats(0.01, 0.9))
def test_a_clinics_prevalence_reweights_the_classes(seed, prevalence):
    y, score, groups = study(seed)
    p, t = calibration.fit_calibrator(score, y)(score), np.array([0.1, 0.4])
    sens, fpr = (np.array([(p[y == k] >= x).mean() for x in t]) for k in (1, 0))
    curve = thresholds.decision_curve(y, p, t, groups, prevalence)
    np.testing.assert_allclose(curve.model, sens * prevalence - fpr * (1 - prevalence) * t / (1 - t), atol=1e-12)
    assert (curve.low <= curve.model).all() and (curve.model <= prevalence + 1e-12).all()


def test_what_is_no_probability_is_refused():
    with pytest.raises(InputError, match="calibrate scores first"): calibration.ece([0, 1], [-0.5, 1.5])
    with pytest.raises(InputError, match="below 1"): thresholds.decision_curve([0, 1], [0.1, 0.9], [1.0])
    with pytest.raises(InputError, match="sigmoid"): calibration.fit_calibrator([0.1, 0.9], [0, 1], "platt")


@pytest.mark.parametrize("plot", [evaluation_plots.plot_reliability, evaluation_plots.plot_operating,
                                  evaluation_plots.plot_decision_curve])
def test_figures_of_drawn_data_say_so(plot):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    y, score, groups = study()
    fold = [np.arange(120) // 10 % 4] if plot is evaluation_plots.plot_operating else []
    fig = plot(y, calibration.cross_calibrated(y, score, groups=groups), *fold, groups=groups, synthetic=True)
    titles = [fig._suptitle.get_text() if fig._suptitle else "", *(a.get_title() for a in fig.axes)]
    assert any("synthetic" in t for t in titles)
    plt.close(fig)
