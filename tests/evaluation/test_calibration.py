"""Calibration, operating points and decision curves against scikit-learn, hand-worked numbers and properties."""
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_curve

from leuknb.evaluation import calibration
from leuknb.evaluation import thresholds
from leuknb.evaluation import plots as evaluation_plots
from leuknb.core import InputError, rng
from leuknb.evaluation.metrics import auroc

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


@quick
@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8, 0.95, 0.99, 1.0]), st.booleans())
def test_operating_point_is_the_best_of_the_roc_curve(seed, wanted, ties):
    y, score, _ = study(seed)
    if ties: score = np.round(score)
    o = thresholds.operating_point(y, score, wanted)
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    assert o.sensitivity >= wanted - 1e-9
    assert o.specificity.value == pytest.approx(1 - fpr[tpr >= wanted - 1e-9].min())
    assert o.specificity.low - 1e-12 <= o.specificity.value <= o.specificity.high + 1e-12


@quick
@given(st.integers(0, 10_000))
def test_calibrating_does_not_move_the_operating_point(seed):
    y, score, groups = study(seed)
    p = calibration.fit_calibrator(score, y)(score)
    for method in ("score", "percentile"):
        one, other = (thresholds.operating_point(y, v, 0.9, groups, method, resamples=50) for v in (score, p))
        assert one[1:] == other[1:]
    assert auroc(y, p) == pytest.approx(auroc(y, score))


def test_few_abnormal_images_promise_no_specificity():
    y, score, groups = study(n=40, groups=40)
    assert thresholds.operating_point(y, score, 0.99).specificity.low == 0
    big = study(n=4000, groups=4000)
    assert thresholds.operating_point(*big[:2], 0.95).specificity.low > 0.3
    assert thresholds.operating_point(*big[:2], 0.95, np.repeat(np.arange(400), 10)).specificity.low >= 0


def test_bootstrap_of_the_operating_point_equals_copying_rows():
    y, score, groups = study(n=30, groups=10)
    names, generator, values = np.unique(groups), rng(4, "operating_point"), []
    for _ in range(200):
        rows = np.concatenate([np.flatnonzero(groups == names[g]) for g in generator.integers(10, size=10)])
        if 0 < y[rows].mean() < 1:
            values.append(thresholds.operating_point(y[rows], score[rows], 0.9).specificity.value)
    o = thresholds.operating_point(y, score, 0.9, groups, "percentile", resamples=200, seed=4)
    np.testing.assert_allclose(o.specificity.ci, np.quantile(values, [0.025, 0.975]))


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
    with pytest.raises(InputError, match="sensitivity"): thresholds.operating_point([0, 1], [0.1, 0.9], 95)
    with pytest.raises(InputError, match="sigmoid"): calibration.fit_calibrator([0.1, 0.9], [0, 1], "platt")


@pytest.mark.parametrize("plot", [evaluation_plots.plot_reliability, evaluation_plots.plot_operating,
                                  evaluation_plots.plot_decision_curve])
def test_figures_of_drawn_data_say_so(plot):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    y, score, groups = study()
    fig = plot(y, calibration.cross_calibrated(y, score, groups=groups), groups=groups, synthetic=True)
    titles = [fig._suptitle.get_text() if fig._suptitle else "", *(a.get_title() for a in fig.axes)]
    assert any("synthetic" in t for t in titles)
    plt.close(fig)
