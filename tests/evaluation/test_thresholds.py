"""Thresholds keep their promise in new patients, are judged on folds that had no say in them, and say when there is
none.
"""
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leuknb.core import InputError, to_json
from leuknb.evaluation.intervals import wilson
from leuknb.evaluation.thresholds import choose_threshold, operating_point

quick = settings(max_examples=40, deadline=None)


def study(seed=0, patients=80, each=5, icc=0.3, shift=2.4):
    "Labels, scores, patients and folds; every second patient is positive."
    r = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), each)
    y = (groups % 2).astype(int)
    own = np.sqrt(icc) * r.standard_normal(patients)[groups] + np.sqrt(1 - icc) * r.standard_normal(len(y))
    return y, shift * y + own, groups, groups // 2 % 5


@quick
@given(st.integers(2, 300), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]), st.integers(0, 99))
def test_of_images_apart_it_is_the_order_statistic_whose_expected_sensitivity_is_the_promised_one(n, promised, seed):
    score = np.random.default_rng(seed).normal(size=n)
    found = choose_threshold(np.r_[np.ones(n), 0], np.r_[score, -99], promised)
    k = math.floor((1 - promised) * (n + 1) + 1e-9)  # a new image lies below the k-th lowest with k / (n + 1)
    if k == 0: assert math.isnan(found.value) and f"{n} positive image" in found.why
    else: assert found.value == np.sort(score)[k - 1] and not found.why


@pytest.mark.parametrize("icc", [0, 0.3, 0.6])
@pytest.mark.parametrize("patients, each", [(16, 5), (29, 20)])
def test_the_promise_is_kept_in_new_patients(patients, each, icc):
    reached = []
    for i in range(300):
        _, score, groups, _ = study(i, patients, each, icc, 0)
        t = choose_threshold(np.r_[np.ones(len(score)), 0], np.r_[score, -99], 0.95, np.r_[groups, -1]).value
        if np.isfinite(t): reached.append(stats.norm.sf(t))
    assert len(reached) > 280
    assert np.mean(reached) > 0.95 - 2.5 * np.std(reached) / math.sqrt(len(reached)) and np.mean(reached) < 0.96


def test_the_threshold_that_found_95_of_these_images_finds_fewer_of_the_next():
    "The rule that was used before: without it the promise above is not kept."
    naive = []
    for i in range(300):
        score = study(i, 16, 5, 0.3, 0)[1]
        naive.append(stats.norm.sf(np.sort(score)[::-1][math.ceil(0.95 * 80) - 1]))
    assert np.mean(naive) < 0.95


@quick
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_threshold_moves_with_the_scores_and_not_with_the_order_of_images(seed, scale, shift):
    y, score, groups, fold = study(seed, 60)
    one = choose_threshold(y, score, 0.9, groups)
    moved = choose_threshold(y, scale * score + shift, 0.9, groups)
    order = np.random.default_rng(seed).permutation(len(y))
    assert moved.value == pytest.approx(scale * one.value + shift)
    assert choose_threshold(y[order], score[order], 0.9, groups[order]) == one
    names = np.array([f"p{g}" for g in groups])
    assert operating_point(y, score, fold, 0.9, names) == operating_point(y, score, fold, 0.9, groups)


@quick
@given(st.integers(0, 10_000))
def test_more_is_promised_by_lower_thresholds(seed):
    y, score, groups, _ = study(seed, 60)
    cuts = [choose_threshold(y, score, s, groups).value for s in (0.5, 0.7, 0.9, 0.95)]
    assert np.all(np.diff(cuts) <= 0)


def test_a_fold_is_called_by_a_threshold_in_which_it_had_no_say():
    y, score, groups, fold = study(1)
    found = operating_point(y, score, fold, 0.9, groups)
    cuts = np.empty(len(y))
    for f in range(5):
        rest = fold != f
        cuts[fold == f] = choose_threshold(y[rest], score[rest], 0.9, groups[rest]).value
    assert found.sensitivity.value == pytest.approx(np.mean((score >= cuts)[y == 1]))
    assert found.specificity.value == pytest.approx(np.mean((score < cuts)[y == 0]))
    assert len(set(cuts)) > 1 and (found.sensitivity.n, found.specificity.n) == (40, 40)
    assert found.threshold == choose_threshold(y, score, 0.9, groups).value and not found.why


def test_intervals_say_something():
    y, score, groups, fold = study(2)
    found = operating_point(y, score, fold, 0.95, groups)
    assert 0.4 < found.specificity.low < found.specificity.high < 0.95 and found.sensitivity.low > 0.85


def test_a_perfect_model_is_perfect_and_not_known_to_be():
    y, score, groups, fold = study(3, shift=30)
    found = operating_point(y, score, fold, 0.95, groups)
    assert found.specificity.value == 1 and 0.9 < found.specificity.low < wilson(200, 200)[0]
    assert 0.9 < found.sensitivity.value < 1


@pytest.mark.parametrize("promised, n", [(0.95, 18), (0.99, 98)])
def test_too_few_positive_images_promise_nothing(promised, n):
    y = np.r_[np.ones(n, int), np.zeros(50, int)]
    score = np.arange(n + 50.0)[::-1] + 100 * y
    found = choose_threshold(y, score, promised)
    assert math.isnan(found.value) and f"{n} positive images" in found.why and f"{100 * promised:g} %" in found.why
    assert np.isfinite(choose_threshold(np.r_[1, y], np.r_[500, score], promised).value)


def test_three_positive_images():
    y = np.r_[1, 1, 1, np.zeros(60, int)]
    found = operating_point(y, 10 * y + np.arange(63.0), np.arange(63) % 3, 0.95)
    written = json.loads(to_json(found.to_dict()))
    assert written["threshold"] is None and written["sensitivity"] == {"value": None, "n": 3, "units": "images"}
    assert "3 positive images" in written["why"] and "ci" not in written["specificity"]


def test_one_big_patient_has_one_vote():
    y, score, groups, _ = study(4, 80)
    hard = 400  # images of one positive patient, all harder to see than any other
    big = choose_threshold(np.r_[y, np.ones(hard, int)], np.r_[score, np.full(hard, -1.0)], 0.9,
                           np.r_[groups, np.full(hard, 99)])
    assert big.value > -1 and big.value == pytest.approx(choose_threshold(y, score, 0.9, groups).value, abs=0.5)
    alone = choose_threshold(np.r_[1, 1, 1, 0], [1, 2, 3, 0], 0.9, ["a", "a", "a", "b"])
    assert math.isnan(choose_threshold([1, 0], [1, 0], 0.5).value) and math.isnan(alone.value)
    assert alone.why.startswith("1 patient with positive images is too few")


@pytest.mark.parametrize("score", [np.zeros(200), np.r_[np.zeros(120), np.ones(80)]])
def test_scores_of_few_values_that_call_everything_positive_are_no_specificity_of_nought(score):
    y = np.r_[np.zeros(100, int), np.ones(100, int)]
    found = operating_point(y, score, np.arange(200) % 5, 0.95)
    values = len(set(score))
    assert math.isnan(found.specificity.value) and math.isnan(found.threshold)
    assert f"its scores take {values} value" in found.why and "calls every image positive" in found.why


def test_votes_of_five_neighbours_allow_a_threshold_where_the_lowest_is_not_needed():
    y = np.r_[np.zeros(100, int), np.ones(100, int)]
    score = np.r_[np.repeat([0, 0.2, 0.4], [60, 30, 10]), np.repeat([0, 0.4, 0.8, 1], [2, 18, 40, 40])]
    assert choose_threshold(y, score, 0.95).value == 0.4


def test_a_threshold_of_all_images_that_no_fold_could_have_chosen_is_given_and_not_judged():
    y, score = np.r_[np.ones(20, int), np.zeros(20, int)], np.r_[np.arange(20.0) + 5, np.arange(20.0)]
    found = operating_point(y, score, np.arange(40) % 5, 0.95)
    assert found.threshold == 5 and math.isnan(found.sensitivity.value)
    assert found.why.startswith("in 5 of 5 training parts: 16 positive images")


def test_classes_and_sensitivities_that_make_no_sense():
    assert choose_threshold([1, 1], [1, 2]).why == "a class is missing"
    for wrong in (0, 1, 95):
        with pytest.raises(InputError, match="between 0 and 1"): choose_threshold([0, 1], [0.1, 0.9], wrong)
