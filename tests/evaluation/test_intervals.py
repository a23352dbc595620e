"""Every interval and test against an implementation that shares no code with it, a published example, or a property
that must hold.
"""
import math
from itertools import product
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.contingency_tables import cochrans_q as sm_cochrans_q
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from leuknb.evaluation import metrics
from leuknb.evaluation import intervals
from leuknb.evaluation import comparison
from leuknb.evaluation import paired_tests
from leuknb.evaluation import power
from leuknb.evaluation import schemes
from leuknb.core import InputError

quick = settings(max_examples=40, deadline=None)


def study(seed=0, n=60, repeats=None, groups=None, ties=False):
    "Labels, predictions, scores and groups of a small drawn study."
    r = np.random.default_rng(seed)
    codes = np.arange(n) if groups is None else r.integers(groups, size=n)
    y = np.r_[[0, 1], r.integers(0, 2, n - 2)]
    score = 1.5 * y[:, None] + 0.7 * r.standard_normal(n)[codes][:, None] + r.standard_normal((n, repeats or 1))
    if ties: score = np.round(score)
    if repeats is None: score = score[:, 0]
    return y, (score > 0.75).astype(int), score, None if groups is None else codes.astype(str)


# ---- one proportion

def test_intervals_of_the_seed_papers_table_are_the_published_ones():
    low, high = intervals.clopper_pearson([38, 37, 34, 30], 39)
    np.testing.assert_allclose(100 * low, [86.5, 82.7, 72.6, 60.7], atol=0.05)
    np.testing.assert_allclose(100 * high, [99.9, 99.4, 95.7, 88.9], atol=0.05)


@pytest.mark.parametrize("ours, theirs", [(intervals.clopper_pearson, "beta"), (intervals.wilson, "wilson")])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_proportion_intervals_agree_with_statsmodels(ours, theirs, level):
    for n in (1, 2, 39, 195, 20_000):
        k = np.unique(np.linspace(0, n, 30).astype(int))
        np.testing.assert_allclose(ours(k, n, level), proportion_confint(k, n, 1 - level, theirs), atol=1e-9)


@quick
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_counting_failures_instead_of_successes_mirrors_the_interval(kn):
    k, n = kn
    for f in (intervals.clopper_pearson, intervals.wilson):
        low, high = f(k, n)
        mirrored = f(n - k, n)
        assert 0 <= low <= k / n <= high <= 1
        np.testing.assert_allclose((low, high), (1 - mirrored[1], 1 - mirrored[0]), atol=1e-9)


def test_nothing_of_nothing_is_undefined_and_impossible_counts_are_refused():
    assert np.isnan(intervals.clopper_pearson(0, 0)).all() and np.isnan(intervals.wilson(0, 0)).all()
    with pytest.raises(InputError, match="between 0 and its n"): intervals.wilson(3, 2)
    with pytest.raises(InputError, match="level"): intervals.clopper_pearson(1, 2, 95)


# ---- rates and AUROC

@quick
@given(st.integers(0, 10_000), st.booleans())
def test_metrics_agree_with_scikit_learn(seed, ties):
    y, said, score, _ = study(seed, ties=ties)
    ours = intervals.metric_values(y, said, score)
    theirs = {"auprc": sk.average_precision_score(y, score), "accuracy": sk.accuracy_score(y, said),
              "sensitivity": sk.recall_score(y, said), "specificity": sk.recall_score(1 - y, 1 - said),
              "f1": sk.f1_score(y, said), "balanced_accuracy": sk.balanced_accuracy_score(y, said),
              "auroc": sk.roc_auc_score(y, score)}
    if said.any(): theirs["precision"] = sk.precision_score(y, said)
    for m, v in theirs.items(): assert ours[m] == pytest.approx(v, abs=1e-12), m


def test_auroc_is_the_mann_whitney_statistic():
    y, _, score, _ = study(5, ties=True)
    u = stats.mannwhitneyu(score[y == 1], score[y == 0]).statistic
    assert metrics.auroc(y, score) == pytest.approx(u / (y.sum() * (1 - y).sum()))


def test_undefined_rates_are_nan_not_zero():
    assert math.isnan(intervals.metric_values([0, 1, 1], [0, 0, 0])["precision"])
    assert math.isnan(intervals.metric_values([1, 1], [1, 0])["specificity"])
    assert math.isnan(metrics.auroc([0, 0], [1.0, 2.0]))
    nothing = intervals.metric_intervals([0, 1, 1], [0, 0, 0])["precision"]
    assert math.isnan(nothing.value) and math.isnan(nothing.low)


def direct_delong(y, a, b):
    "DeLong's covariance from the matrix of all pairs."
    areas, parts = [], []
    for score in (a, b):
        pos, neg = score[y == 1], score[y == 0]
        psi = (pos[:, None] > neg).astype(float) + 0.5 * (pos[:, None] == neg)
        areas.append(psi.mean()); parts.append((psi.mean(1), psi.mean(0)))
    cover = np.zeros((2, 2))
    for i, j in product(range(2), repeat=2):
        for k in (0, 1):
            u, v = parts[i][k] - areas[i], parts[j][k] - areas[j]
            cover[i, j] += (u @ v) / (len(u) - 1) / len(u)
    return np.array(areas), cover


@quick
@given(st.integers(0, 10_000), st.booleans())
def test_fast_delong_equals_the_direct_one(seed, ties):
    y, _, a, _ = study(seed, ties=ties)
    b = np.round(a + np.random.default_rng(seed + 1).standard_normal(len(a)), 0 if ties else 9)
    if min(y.sum(), (1 - y).sum()) < 2: return
    areas, cover = intervals.delong_covariance(y, np.column_stack([a, b]))
    direct_areas, direct_cover = direct_delong(y, a, b)
    np.testing.assert_allclose(areas, direct_areas, atol=1e-12)
    np.testing.assert_allclose(cover, direct_cover, atol=1e-12)
    z = (direct_areas[0] - direct_areas[1]) / np.sqrt(max(direct_cover[0, 0] + direct_cover[1, 1] - 2 * direct_cover[0,
        1], 1e-300))
    if abs(z) < 30: assert paired_tests.delong_test(y, a, b)["p"] == pytest.approx(2 * stats.norm.sf(abs(z)), abs=1e-9)


def test_obuchowskis_variance_with_one_image_a_group_is_close_to_delongs():
    y, _, score, _ = study(3, n=400)
    apart, grouped = intervals.delong_covariance(y, score)[1][0, 0], intervals.delong_covariance(y, score,
        np.arange(400))[1][0, 0]
    assert grouped == pytest.approx(apart, rel=0.02)


@quick
@given(st.integers(0, 10_000))
def test_auroc_and_its_intervals_know_only_the_order_of_the_scores(seed):
    y, said, score, groups = study(seed, n=80, groups=20)
    stretched = np.exp(score / 3) * 5 - 2
    assert intervals.delong_interval(y, score, groups) == intervals.delong_interval(y, stretched, groups)
    one, other = (intervals.metric_intervals(y, said, s, groups)["auroc"] for s in (score, stretched))
    assert one == other


# ---- groups

@quick
@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 3))
def test_leave_outs_equal_recomputing_without_the_group(seed, ties, repeats):
    y, said, score, groups = study(seed, 40, repeats, 8, ties)
    lay = intervals._layout(y, said, score, groups)
    left, names = intervals._left_out(lay), np.unique(groups)
    for g, name in enumerate(names):
        kept = groups != name
        again = intervals.metric_values(y[kept], said[kept], score[kept])
        for m in left:
            found = intervals._over_repeats(left[m][g])
            assert found == pytest.approx(again[m], abs=1e-12, nan_ok=True), m


@quick
@given(st.integers(0, 10_000), st.sampled_from(["auto", "score"]))
def test_order_of_images_and_repeats_and_copies_of_repeats_change_nothing(seed, method):
    y, said, score, groups = study(seed, 40, 2, 9)
    order = np.random.default_rng(seed).permutation(40)
    one = intervals.metric_intervals(y, said, score, groups, method)
    other = intervals.metric_intervals(y[order], said[order][:, ::-1], score[order][:, ::-1], groups[order], method)
    twice = intervals.metric_intervals(y, np.hstack([said, said]), np.hstack([score, score]), groups, method)
    for m in one:
        np.testing.assert_allclose(one[m][:3], other[m][:3], atol=1e-9)
        if m not in ("precision", "npv", "f1", "mcc"): np.testing.assert_allclose(one[m][:3], twice[m][:3], atol=1e-9)


@quick
@given(st.integers(0, 10_000))
def test_calling_normal_positive_swaps_sensitivity_and_specificity(seed):
    y, said, score, groups = study(seed, 60, None, 15)
    one, other = intervals.metric_intervals(y, said, score, groups), intervals.metric_intervals(1 - y, 1 - said, -score,
        groups)
    for a, b in (("sensitivity", "specificity"), ("accuracy", "accuracy"), ("balanced_accuracy", "balanced_accuracy"),
                 ("auroc", "auroc")):
        np.testing.assert_allclose(one[a][:3], other[b][:3], atol=1e-7)


@quick
@given(st.integers(0, 10_000), st.integers(4, 6))
def test_copying_every_image_within_its_patient_teaches_nothing(seed, times):
    y, said, score, groups = study(seed, 50, None, 12)
    copied = [np.repeat(v, times) for v in (y, said, groups)]
    one, many = intervals.metric_intervals(y, said, groups=groups,
                                           method="score"), intervals.metric_intervals(copied[0], copied[1],
                                               groups=copied[2], method="score")
    for m in ("accuracy", "sensitivity", "specificity", "balanced_accuracy"):
        if 0 < one[m].value < 1 and 0 < one["sensitivity"].value < 1 and 0 < one["specificity"].value < 1:
            assert one[m].value == pytest.approx(many[m].value)
            assert many[m].high - many[m].low > 0.75 * (one[m].high - one[m].low), m


@quick
@given(st.integers(0, 10_000), st.sampled_from(["auto", "score"]))
def test_ends_stay_within_zero_and_one_and_around_the_estimate(seed, method):
    y, said, score, groups = study(seed, 24, None, 6)
    for m, i in intervals.metric_intervals(y, said, score, groups, method).items():
        if math.isnan(i.low): continue
        assert (-1 if m == "mcc" else 0) - 1e-12 <= i.low <= i.high <= 1 + 1e-12, m
        assert i.low - 1e-9 <= i.value <= i.high + 1e-9, m


def test_patients_widen_and_a_single_patient_says_nothing():
    r = np.random.default_rng(1)
    groups = np.repeat([f"p{i:02}" for i in range(40)], 5)
    y = np.arange(200) // 5 % 2
    score = 2 * y + r.standard_normal(40).repeat(5) + 0.5 * r.standard_normal(200)
    said = score > 1
    apart, grouped = intervals.metric_intervals(y, said, score, method="score"), intervals.metric_intervals(y, said,
        score, groups)
    assert grouped["auroc"].high - grouped["auroc"].low > apart["auroc"].high - apart["auroc"].low
    alone = ["one"] * 200
    assert intervals.metric_intervals(y, said, groups=alone)["accuracy"][1:3] == (0.0, 1.0)
    assert intervals.effective_images(said == y, alone) == 1 and 20 < intervals.effective_images(said == y,
        groups) < 200
    assert intervals.effective_images(said == y, np.arange(200)) == pytest.approx(199)


def test_exact_f1_interval_is_that_of_a_binomial_share():
    y, said, _, _ = study(4)
    tp, wrong = ((y == 1) & (said == 1)).sum(), (y != said).sum()
    share = np.array(proportion_confint(tp, tp + wrong, 0.05, "beta"))
    np.testing.assert_allclose(intervals.metric_intervals(y, said)["f1"][1:3], 2 * share / (1 + share), atol=1e-9)


def test_misfits_are_refused_in_words():
    with pytest.raises(InputError, match="do not fit"): intervals.metric_values([0, 1], [0, 1, 1])
    with pytest.raises(InputError, match="0 \\(normal\\) or 1"): metrics.auroc([1, 2], [0.1, 0.2])
    with pytest.raises(InputError, match="NaN"): metrics.auroc([0, 1], [0.1, math.nan])
    with pytest.raises(InputError, match="same shape"): intervals.metric_values([0, 1], [0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(InputError, match="at least one image"): intervals.metric_values([], [])
    with pytest.raises(InputError, match="predicted is not accepted"):
        intervals.metric_values([0, 1], ["normal", "abnormal"])
    with pytest.raises(InputError, match="did you mean 'score'"):
        intervals.metric_intervals([0, 1], [0, 1], method="scor")
    with pytest.raises(InputError, match="exact"):
        intervals.metric_intervals([0, 1], [0, 1], groups=["a", "a"], method="exact")


def test_twenty_thousand_images_do_not_need_a_quadratic_table():
    y, said, score, _ = study(0, 20_000)
    assert intervals.metric_intervals(y, said, score, np.arange(20_000) // 5)["auroc"].low > 0.5
    assert intervals.delong_interval(y, score).low > 0.5


def test_repeats_never_make_more_of_the_images_than_there_are():
    y, said, score, groups = study(11, 60, 10, 12)
    r = np.random.default_rng(0)
    noisy = np.where(r.random(said.shape) < 0.4, r.integers(0, 2, said.shape), said)  # every fit answers differently
    for g in (None, groups):
        found = intervals.metric_intervals(y, noisy, groups=g)["accuracy"]
        low, high = intervals.wilson(60 * found.value, 60, df=59 if g is None else len(set(groups)) - 1)
        assert found.low <= low + 1e-9 and found.high >= high - 1e-9


def test_a_model_that_training_moves_has_a_wider_interval_than_its_predictions_show():
    r = np.random.default_rng(3)
    y, fold = np.arange(200) % 2, np.column_stack([r.permutation(200) % 5 for _ in range(10)])
    score = 2 * y + r.standard_normal(200)
    called = score[:, None] > 1 + 0.7 * r.standard_normal((5, 10))[fold, np.arange(10)]
    plain, told = (intervals.metric_intervals(y, called, fold=f)["sensitivity"] for f in (None, fold))
    assert told.high - told.low > 1.3 * (plain.high - plain.low) and told.value == plain.value


def test_few_positives_of_patients_borrow_the_correlation_of_the_others():
    r, hits = np.random.default_rng(1), []
    groups = np.repeat(np.arange(43), 10)
    y = (groups < 3).astype(int)  # three patients of 43 are positive
    for _ in range(150):
        score = 1.2 * y + 0.75 * r.standard_normal(43)[groups] + 0.66 * r.standard_normal(430)
        found = intervals.metric_intervals(y, score > 0.6, score, groups)
        hits.append([found[m].low <= t <= found[m].high for m, t in
                     (("auroc", stats.norm.cdf(1.2 / np.sqrt(2))), ("sensitivity", stats.norm.cdf(0.6)))])
    assert (np.mean(hits, 0) > 0.9).all(), np.mean(hits, 0)


# ---- cross-validation

def test_corrected_t_is_the_plain_t_test_when_training_sets_do_not_overlap():
    d = np.random.default_rng(0).normal(0.02, 0.05, 20)
    plain = stats.ttest_1samp(d, 0)
    ours = paired_tests.corrected_resampled_ttest(d, 1e12, 1)
    assert ours["p"] == pytest.approx(plain.pvalue, rel=1e-6)
    np.testing.assert_allclose(ours["difference"].ci, plain.confidence_interval(), rtol=1e-6)


def test_corrected_t_by_hand():
    d = np.array([0.1, 0.0, 0.2, 0.1])  # mean 0.1, s^2 = 0.02 / 3
    t = 0.1 / math.sqrt((1 / 4 + 1 / 4) * 0.02 / 3)
    ours = paired_tests.corrected_resampled_ttest(d, 80, 20)
    assert ours["statistic"] == pytest.approx(t) and ours["p"] == pytest.approx(2 * stats.t.sf(t, 3))
    interval = intervals.nadeau_bengio_interval(d, 80, 20)
    np.testing.assert_allclose(interval[1:3], ours["difference"].ci)
    assert paired_tests.corrected_resampled_ttest(d, 80, 20, n_groups=3)["p"] == pytest.approx(2 * stats.t.sf(t, 2))


def test_corrected_t_of_equal_models_and_of_too_few_splits():
    assert paired_tests.corrected_resampled_ttest([0.0] * 5, 4, 1)["p"] == 1.0
    assert 0 < paired_tests.corrected_resampled_ttest([0.5] * 5, 80, 20)["p"] < 0.01
    assert math.isnan(intervals.nadeau_bengio_interval([0.9], 4, 1).low)
    with pytest.raises(InputError, match="n_train"): intervals.nadeau_bengio_interval([0.9, 0.8], 0, 1)


# ---- paired tests

@quick
@given(st.integers(0, 60), st.integers(0, 60))
def test_exact_mcnemar_agrees_with_statsmodels(b, c):
    assert paired_tests.mcnemar_exact(b, c) == pytest.approx(sm_mcnemar([[5, b], [c, 5]], exact=True).pvalue if b + c
                                                           else 1.0, abs=1e-12)
    assert paired_tests.mcnemar_exact(b, c) == paired_tests.mcnemar_exact(c, b) >= paired_tests.mcnemar_exact(b, c,
        mid_p=True)


def test_mcnemar_reproduces_published_examples():
    # the seed paper's table, at its most favourable
    assert [round(paired_tests.mcnemar_exact(b, 0), 3) for b in (1, 4, 8)] == [1.0, 0.125, 0.008]
    assert round(paired_tests.mcnemar_exact(1, 7), 3) == 0.070 and round(paired_tests.mcnemar_exact(1, 7, mid_p=True),
        3) == 0.039  # Fagerland 2013, airway responsiveness


@quick
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.booleans())
def test_sign_flips_agree_with_trying_them_all(leads, mid):
    d = np.array(leads)
    sums = np.array([np.dot(signs, d) for signs in product((-1, 1), repeat=len(d))])
    observed = abs(d.sum())
    beyond, equal = np.mean(np.abs(sums) > observed), np.mean(np.abs(sums) == observed)
    expected = 1.0 if observed == 0 else beyond + equal * (0.5 if mid else 1)
    assert paired_tests.sign_flip_exact(d, mid) == pytest.approx(expected, abs=1e-12)


def test_sign_flips_of_single_images_are_mcnemars_test():
    for b, c in ((0, 0), (3, 1), (12, 4), (300, 250)):
        assert paired_tests.sign_flip_exact([1] * b + [-1] * c) == pytest.approx(paired_tests.mcnemar_exact(b, c),
            abs=1e-10)


def cells_to_rows(both, only_a, only_b, none):
    return np.repeat([1, 1, 0, 0], [both, only_a, only_b, none]), np.repeat([1, 0, 1, 0], [both, only_a, only_b, none])


def test_the_score_interval_reproduces_the_published_example():
    # Fagerland 2014, airway responsiveness: -0.517 to -0.026
    found = paired_tests.paired_difference(*cells_to_rows(1, 1, 7, 12))
    np.testing.assert_allclose(found[:3], (-6 / 21, -0.517, -0.026), atol=5e-4)


@quick
@given(*[st.integers(0, 25)] * 3)
def test_paired_difference_agrees_with_searching_the_likeliest_tables(only_a, only_b, alike):
    n = only_a + only_b + alike
    if n == 0: return
    z = stats.norm.ppf(0.975)

    def distance(x):
        "Score statistic at a difference x; the likeliest share of only b on a grid refined three times."
        low, high = max(0.0, -x), (1 - x) / 2
        for _ in range(8):
            q = np.linspace(low, high, 41)
            with np.errstate(divide="ignore", invalid="ignore"):
                likely = (np.where(only_a, only_a * np.log(q + x), 0) + np.where(only_b, only_b * np.log(q), 0)
                          + np.where(alike, alike * np.log(1 - x - 2 * q), 0))
            best = int(np.argmax(np.nan_to_num(likely, nan=-np.inf)))
            low, high = q[max(best - 1, 0)], q[min(best + 1, 40)]
        return (only_a - only_b - n * x) / math.sqrt(n * (2 * q[best] + x * (1 - x)))

    found = paired_tests.paired_difference(*cells_to_rows(alike, only_a, only_b, 0))
    for end in found[1:3]:
        if abs(end) < 1 - 1e-9: assert abs(distance(end)) == pytest.approx(z, rel=1e-3)
    other = paired_tests.paired_difference(*cells_to_rows(alike, only_b, only_a, 0))
    assert found.low == pytest.approx(-other.high, abs=1e-9) and found.low < found.value + 1e-12 < found.high + 2e-12
    mcnemar = (only_a - only_b) ** 2 / max(only_a + only_b, 1)
    if abs(mcnemar - z**2) > 1e-6: assert (found.low <= 0 <= found.high) == (mcnemar < z**2)


@quick
@given(st.integers(0, 10_000))
def test_cochrans_q_agrees_with_statsmodels(seed):
    right = np.random.default_rng(seed).random((40, 4)) < [0.9, 0.8, 0.8, 0.6]
    theirs = sm_cochrans_q(right.astype(int))
    q, p = paired_tests.cochran_q(right)
    assert q == pytest.approx(theirs.statistic) and p == pytest.approx(theirs.pvalue)


def test_cochrans_q_and_mcnemar_agree_with_mlxtend():
    from mlxtend.evaluate import cochrans_q, mcnemar

    r = np.random.default_rng(0)
    y = r.integers(0, 2, 100)
    said = [np.where(r.random(100) < p, y, 1 - y) for p in (0.9, 0.85, 0.7)]
    np.testing.assert_allclose(paired_tests.cochran_q(np.column_stack([m == y for m in said])), cochrans_q(y, *said),
                               rtol=1e-9)
    a, b = said[0] == y, said[2] == y
    table = np.array([[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]])
    assert paired_tests.mcnemar_exact(table[0, 1], table[1, 0]) == pytest.approx(mcnemar(table, exact=True)[1])


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p):
    with patch("gc.collect"):  # which statsmodels calls every time, in a test session of many objects
        theirs = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(paired_tests.holm(p), theirs, atol=1e-12)


def test_holm_leaves_out_what_is_no_test():
    np.testing.assert_allclose(paired_tests.holm([0.01, math.nan, 0.04]), [0.02, math.nan, 0.04])


def test_permutation_p_agrees_with_scipy_and_is_never_zero():
    r = np.random.default_rng(0)
    data = (r.normal(0.5, 1, 30), r.normal(0, 1, 30))
    theirs = stats.permutation_test(data, lambda a, b: a.mean() - b.mean(), vectorized=False, n_resamples=400,
                                    alternative="greater", rng=r)
    assert paired_tests.permutation_p(theirs.statistic, theirs.null_distribution) == pytest.approx(theirs.pvalue)
    assert paired_tests.permutation_p(2, np.zeros(999)) == 0.001 and paired_tests.permutation_p(0, []) == 1.0


# ---- tables and words

def predictions(right, scheme="holdout", splits=None, groups=None):
    "A predictions table from {model: [n] or [n, repeats] bool}; every repeat is one split unless told."
    frames = []
    for model, r in right.items():
        r = np.asarray(r).reshape(len(r), -1)
        for k in range(r.shape[1]):
            frames.append(pd.DataFrame({"file_name": [f"{i:04}.png" for i in range(len(r))], "label": "abnormal",
                                        "group": "" if groups is None else groups,
                                        "model": model, "scheme": scheme,
                                        "split": k if splits is None else splits[:, k], "score": 0.0,
                                        "predicted": np.where(r[:, k], "abnormal", "normal")}))
    return pd.concat(frames, ignore_index=True)


def test_holdout_comparison_is_mcnemar_with_holm_and_cochran():
    r = np.random.default_rng(2)
    right = {m: r.random(39) < p for m, p in (("svm", 0.97), ("ensemble", 0.95), ("knn", 0.87), ("tree", 0.5))}
    found = comparison.compare_models(predictions(right).sample(frac=1, random_state=0))
    pairs = [c for c in found if c["test"] != "cochran_q"]
    shared = {"a", "b", "metric", "test", "statistic", "p", "p_adjusted", "difference"}
    assert len(pairs) == 6 and all(set(c) == shared | {"informative", "p_least", "pairs"} for c in pairs)
    assert set(found[-1]) == shared
    for c in pairs:
        a, b = right[c["a"]], right[c["b"]]
        assert c["test"] == "mcnemar_exact" and c["p"] == paired_tests.mcnemar_exact((a & ~b).sum(), (~a & b).sum())
        assert c["difference"]["value"] == pytest.approx(a.mean()
                                                         - b.mean()) and c["difference"]["ci"][0] <= c["difference"][
                                                             "value"] <= c["difference"]["ci"][1]
    np.testing.assert_allclose([c["p_adjusted"] for c in pairs],
                               multipletests([c["p"] for c in pairs], method="holm")[1])
    q = sm_cochrans_q(np.column_stack([right[c] for c in dict.fromkeys(x["a"] for x in found if x["a"] != "all")]
                                      + [right[pairs[-1]["b"]]]).astype(int))
    assert found[-1]["statistic"] == pytest.approx(q.statistic) and found[-1]["difference"] is None
    for exact, mid in zip(found, comparison.compare_models(predictions(right), mid_p=True)[:6]):
        assert mid["test"] == "mcnemar_mid_p" and mid["p"] <= exact["p"]


def test_patients_on_the_holdout_are_flipped_as_a_whole():
    right = {"svm": np.ones(20, bool), "tree": np.arange(20) >= 8}
    found = comparison.compare_models(predictions(right, groups=[f"p{i // 4}" for i in range(20)]))[0]
    assert found["test"] == "sign_flip_exact" and found["p"] == 0.5  # eight images, but two patients
    assert comparison.compare_models(predictions(right))[0]["p"] < 0.01


def test_cross_validation_is_compared_over_its_folds():
    r = np.random.default_rng(0)
    n, repeats = 50, 4
    splits = np.column_stack([r.permutation(n) % 5 + 5 * k for k in range(repeats)])
    right = {m: r.random((n, repeats)) < p for m, p in (("svm", 0.95), ("tree", 0.7))}
    found = comparison.compare_models(predictions(right, "cv", splits), "cv")[0]
    d = [right["svm"][splits == f].mean() - right["tree"][splits == f].mean() for f in range(20)]
    lead = right["svm"].astype(float) - right["tree"]  # one class: every image has weight 1
    between = np.mean([lead[:, k].var(ddof=1) / n for k in range(repeats)])
    expected = paired_tests.corrected_resampled_ttest(d, 40, 10, 50, least=between, df=10)
    assert found["test"] == "corrected_resampled_t" and found["p"] == pytest.approx(expected["p"]) and found[
        "difference"]["ci"] == pytest.approx(expected["difference"].ci)


def test_exchanging_the_models_turns_the_comparison_around():
    r = np.random.default_rng(0)
    t = predictions({m: r.random(60) < p for m, p in (("svm", 0.9), ("tree", 0.6))})
    one, other = (comparison.compare_models(t, models=m)[0] for m in (["svm", "tree"], ["tree", "svm"]))
    assert one["p"] == other["p"] and one["difference"]["value"] == -other["difference"]["value"]
    np.testing.assert_allclose(one["difference"]["ci"], [-v for v in other["difference"]["ci"][::-1]], atol=1e-12)
    assert comparison.sentence(one) == comparison.sentence(other)


def test_sentences_follow_from_the_numbers():
    c = {"a": "svm", "b": "ensemble", "test": "corrected_resampled_t", "statistic": 0.6, "p": 0.5, "p_adjusted": 1.0,
         "difference": {"value": 0.012, "ci": [-0.029, 0.051]}}
    assert comparison.sentence(
        c) == ("these data cannot tell linear SVM from ensemble of trees: difference 1.2 points, interval -2.9 to "
               "5.1")
    assert comparison.sentence({**c, "b": "tree", "difference": {"value": -0.2, "ci": [-0.3, -0.1]}, "p": 1e-5,
                                "p_adjusted": 1e-4}) == \
        "decision tree is better than linear SVM by 20.0 points, interval 10.0 to 30.0"
    assert comparison.sentence({**c, "p": 0.02,
                                "p_adjusted": 0.12}).endswith(
                                    "p 0.020 would count alone, not among all the pairs tried")
    assert "too few splits" in comparison.sentence({**c, "p": math.nan, "p_adjusted": math.nan})
    q = {"a": "all", "b": "all", "test": "cochran_q", "statistic": 20.0, "p": 1e-5, "p_adjusted": 1e-5,
         "difference": None}
    assert comparison.sentence(q).startswith("not all models") and comparison.sentence({**q,
        "p": 0.4}).startswith("these data cannot tell the models apart")


def test_tables_that_do_not_align_are_refused():
    t = predictions({"svm": np.ones(6, bool), "tree": np.ones(6, bool)})
    with pytest.raises(InputError, match="did you mean 'holdout'"): comparison.compare_models(t, "holdot")
    with pytest.raises(InputError, match="equally often"):
        comparison.aligned(pd.concat([t, t.iloc[:2].assign(split=1)]), "svm", "holdout")
    with pytest.raises(InputError, match="not tried on the same images"): comparison.compare_models(t.iloc[:-1])


def test_aligned_puts_images_down_and_repeats_across():
    right = np.arange(12).reshape(4, 3) % 2 == 0
    t = predictions({"svm": right}, "cv").sample(frac=1, random_state=3)
    found = comparison.aligned(t, "svm", "cv")
    assert found.groups is None and (found.right == right).all() and list(found.file_name) == sorted(found.file_name)


# ---- power

def test_power_agrees_with_enumerating_all_tables():
    n, difference, discordance = 14, 0.3, 0.5
    b, c = np.meshgrid(np.arange(n + 1), np.arange(n + 1))
    keep = b + c <= n
    b, c = b[keep], c[keep]
    chance = stats.multinomial.pmf(np.column_stack([b, c, n - b - c]), n,
                                   [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance])
    reject = [paired_tests.mcnemar_exact(i, j) <= 0.05 for i, j in zip(b, c)]
    assert power.mcnemar_power(n, difference, discordance) == pytest.approx(chance @ reject, abs=1e-12)


@quick
@given(st.integers(10, 600), st.floats(0.01, 0.9))
def test_smallest_difference_is_where_the_power_is_reached(n, discordance):
    d = power.smallest_difference(n, discordance)
    assert power.mcnemar_power(n, d, max(d, discordance)) == pytest.approx(0.8, abs=2e-3)
    assert power.mcnemar_power(n, 0, discordance) <= 0.05


def test_too_few_images_find_no_difference_at_all():
    assert math.isnan(power.smallest_difference(5, 0.2))
    with pytest.raises(InputError, match="discordance"): power.mcnemar_power(20, 0.4, 0.2)


def test_expected_width_agrees_with_simulation():
    k = np.random.default_rng(0).binomial(39, 0.9, 200_000)
    low, high = proportion_confint(k, 39, 0.05, "beta")
    assert power.interval_width(39, 0.9) == pytest.approx((high - low).mean(), abs=1e-3)


# ---- one shape

def test_a_perfect_result_of_few_patients_is_as_wide_for_every_rate_and_every_number_of_classes():
    names, patients = [f"{i:02}.png" for i in range(60)], [f"p{i // 5}" for i in range(60)]
    for k in (2, 3):
        label = np.array([f"kind{i // 5 % k}" for i in range(60)], object)
        table = pd.DataFrame({"file_name": names, "label": label, "group": patients, "model": "svm",
                              "scheme": "holdout", "split": 0,
                              "score": (label == "kind1") * 1.0, "predicted": label})
        if k == 3: table = table.assign(**{f"score_kind{c}": (label == f"kind{c}") * 1.0 for c in range(3)})
        found = schemes.holdout_metrics(table, "kind1" if k == 2 else None, 60)["models"]["svm"]
        wanted = intervals.wilson(math.sqrt(60 * 12), math.sqrt(60 * 12), df=11)  # counts patients, not images alone
        assert found["accuracy"]["ci"] == pytest.approx(wanted) and found["accuracy"]["ci"][0] == pytest.approx(0.847,
            abs=1e-3)
        if k == 3:
            for m in ("sensitivity", "specificity", "precision", "f1", "balanced_accuracy", "auroc"):
                assert found[m]["ci"] == pytest.approx(wanted), m
        assert (found["accuracy"]["n"], found["accuracy"]["units"]) == (12, "patients")


def test_an_estimate_counts_what_stands_behind_it_and_leaves_out_what_it_does_not_know():
    y, said, score, groups = study(3, 60, None, 12)
    found = intervals.metric_intervals(y, said, score, groups, units="copy groups")
    assert found["accuracy"].n == len(set(groups)) and found["sensitivity"].n == len(set(groups[y == 1]))
    assert found["accuracy"].to_dict()["units"] == "copy groups"
    apart = intervals.metric_intervals(y, said, score)
    assert (apart["accuracy"].n, apart["sensitivity"].n, apart["precision"].n, apart["accuracy"].units) == (60, y.sum(),
        said.sum(), "images")
    for m in ("mcc", "auprc"): assert "ci" not in apart[m].to_dict() and not math.isnan(apart[m].value)
    nothing = intervals.metric_intervals([0, 1, 1], [0, 0, 0])["precision"].to_dict()
    assert math.isnan(nothing["value"]) and "ci" not in nothing
