"""What a call is worth at the prevalence of use."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from leuknb.core import InputError, rng
from leuknb.evaluation.intervals import Estimate, wilson
from leuknb.evaluation.use import at_prevalence, likelihood_ratios, net_benefit, predictive_values, use_section

counts = st.integers(1, 200)


def rate(k, n): return Estimate(k / n, *map(float, wilson(k, n)), n, "images")


@settings(max_examples=200, deadline=None)
@given(counts, counts, st.data(), st.floats(0.001, 0.999))
def test_ratios_and_values_lie_in_their_intervals(n1, n0, data, prevalence):
    k1, k0 = data.draw(st.integers(0, n1)), data.draw(st.integers(0, n0))
    plus, minus = likelihood_ratios(rate(k1, n1), rate(k0, n0))
    for e in (plus, minus, *predictive_values(plus, minus, prevalence)):
        if math.isnan(e.value): continue
        assert e.low <= e.value * (1 + 1e-9) + 1e-12 and e.value <= e.high * (1 + 1e-9) + 1e-12 and e.low >= 0


def test_values_are_those_of_bayes_and_of_the_set_itself_at_its_own_share():
    tp, fn, fp, tn = 47, 4, 5, 57
    plus, minus = likelihood_ratios(rate(tp, tp + fn), rate(tn, tn + fp))
    ppv, npv = predictive_values(plus, minus, (tp + fn) / (tp + fn + fp + tn))
    assert np.isclose(ppv.value, tp / (tp + fp)) and np.isclose(npv.value, tn / (tn + fn))


def test_a_specificity_of_one_has_no_upper_end_and_still_a_lower_one():
    plus, _ = likelihood_ratios(rate(40, 50), rate(50, 50))
    assert plus.value == plus.high == math.inf and 5 < plus.low < 30
    ppv, _ = predictive_values(plus, plus, 0.1)
    assert ppv.value == ppv.high == 1 and 0.3 < ppv.low < 0.9


@pytest.mark.parametrize("sens, spec", [(0.9, 0.9), (0.7, 0.97), (0.97, 0.6)])
def test_the_intervals_hold_the_truth(sens, spec):
    g, hits = rng(0, "test of likelihood ratios", sens, spec), []
    for k1, k0 in zip(g.binomial(60, sens, 1000), g.binomial(60, spec, 1000)):
        plus, minus = likelihood_ratios(rate(k1, 60), rate(k0, 60))
        ppv, npv = predictive_values(plus, minus, 0.05)
        true = 0.05 * sens / (0.05 * sens + 0.95 * (1 - spec)), 0.95 * spec / (0.95 * spec + 0.05 * (1 - sens))
        hits.append([plus.low <= sens / (1 - spec) <= plus.high, minus.low <= (1 - sens) / spec <= minus.high,
                     ppv.low <= true[0] <= ppv.high, npv.low <= true[1] <= npv.high])
    assert ((0.93 <= np.mean(hits, 0)) & (np.mean(hits, 0) <= 0.985)).all(), np.mean(hits, 0)


def test_moved_probabilities_are_calibrated_at_the_other_prevalence():
    g = rng(0, "test of moved probabilities")
    score = np.r_[g.normal(-1, 1, 40_000), g.normal(1, 1, 40_000)]
    half, truth = stats.logistic.cdf(2 * score), np.repeat([0, 1], 40_000)
    moved = at_prevalence(half, 0.5, 0.1)
    kept = (truth == 0) | (g.random(80_000) < 1 / 9)
    for low, high in ((0.05, 0.2), (0.2, 0.5), (0.5, 0.9)):
        here = kept & (moved > low) & (moved < high)
        assert abs(truth[here].mean() - moved[here].mean()) < 0.02
    assert np.allclose(at_prevalence(at_prevalence(half, 0.5, 0.1), 0.1, 0.5), half)


def test_the_section_keeps_no_infinity_and_refuses_what_is_no_prevalence():
    e = {"value": 0.9, "ci": [0.8, 0.95], "n": 50, "units": "patients"}
    y, p = np.repeat([0, 1], 50), np.linspace(0.01, 0.99, 100)
    section = use_section({"svm": {"sensitivity": e, "specificity": e}}, 0.02, y, {"svm": p})
    assert section["share"] == 0.5 and [c["threshold"] for c in section["models"]["svm"]["net_benefit"]] == [
        0.005, 0.01, 0.02, 0.04, 0.08]
    assert np.isclose(section["models"]["svm"]["lr_positive"]["value"], 9)
    best = net_benefit(y, np.where(y, 1 - 1e-9, 1e-9), 0.02)
    assert np.allclose(best.model, 0.02)  # a perfect model is worth the prevalence
    for wrong in (0, 1, -0.1, 2):
        with pytest.raises(InputError, match="prevalence"): predictive_values(Estimate(9.0), Estimate(0.1), wrong)
