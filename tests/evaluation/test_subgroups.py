"""Groups of a set: who belongs to which, and whether a group differs from the rest."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from leuknb.core import InputError, rng
from leuknb.evaluation.predict import evaluate, made_up_study
from leuknb.evaluation.subgroups import (
    detectable, difference_ends, difference_p, side_rates, subgroup_columns, subgroup_rows, value_groups)
from leuknb.settings import make_settings


# who belongs where


def test_numbers_are_cut_at_the_quartiles_of_patients_not_of_images():
    ages, patients = np.repeat([20, 40, 60, 80, 50, 30, 70, 90], [100, 1, 1, 1, 1, 1, 1, 1]), None
    patients = np.repeat(np.arange(8), [100, 1, 1, 1, 1, 1, 1, 1])
    by_patient, by_image = value_groups(ages, patients), value_groups(ages)
    assert list(by_patient.categories) == ["up to 37.5", "over 37.5 to 55", "over 55 to 72.5", "over 72.5"]
    assert by_patient.value_counts().tolist() == [101, 2, 2, 2] and by_image.value_counts().iloc[0] == 100


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["", "NA", "n/a", "None", "f", "m", "3", "7.5"]), min_size=1))
def test_missing_values_are_one_group_that_comes_last(values):
    found = value_groups(values)
    missing = [v in ("", "NA", "n/a", "None") for v in values]
    assert [(g == "not named") for g in found] == missing
    assert ("not named" in found.categories) == any(missing)
    if any(missing): assert found.categories[-1] == "not named"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=8, max_size=60, unique=True))
def test_every_number_lies_in_the_quarter_that_is_named(numbers):
    found = value_groups([repr(v) for v in numbers])
    order = np.argsort(numbers, kind="stable")
    codes = np.array([list(found.categories).index(g) for g in found])
    assert (np.diff(codes[order]) >= 0).all() and 1 <= len(set(codes)) <= 4


def test_few_numbers_and_words_name_their_groups_themselves():
    assert list(value_groups(["0", "1", "1.0"]).categories) == ["0", "1"]
    assert list(value_groups(["10", "9", "x"]).categories) == ["10", "9", "x"]


def test_an_unknown_column_is_answered_with_those_there_are_and_a_name_column_is_refused():
    class D:
        name, groups = "set", None
        usable = pd.DataFrame({"file_name": [f"{i}" for i in range(60)], "label": "x", "sex": "f",
                               "note": [f"n{i}" for i in range(60)]})

    with pytest.raises(InputError, match="sex.*note|note.*sex"): subgroup_columns(D, make_settings(subgroups=["age"]))
    with pytest.raises(InputError, match="60 different values"): subgroup_columns(D, make_settings(subgroups=["note"]))
    assert list(subgroup_columns(D, make_settings(subgroups=["sex"]))["sex"].categories) == ["f"]


# a group against the rest


def drawn(seed, patients=40, images=5, icc=0.3, worse=0.0, of_patients=True):
    "right [n, 1], label, inside, patient of a made-up study; the group is `worse` standard deviations harder."
    g, patient = rng(seed, "test of subgroups"), np.repeat(np.arange(patients), images)
    inside = (g.permutation(patients) < patients // 3)[patient] if of_patients else g.random(len(patient)) < 1 / 3
    z = 1.2 - worse * inside + np.sqrt(icc) * g.normal(size=patients)[patient] + np.sqrt(1 - icc) * g.normal(
        size=len(patient))
    return (z > 0)[:, None], np.where(patient % 2, "b", "a"), inside, patient


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.floats(0, 1.5))
def test_the_test_and_the_interval_agree_and_both_sides_mirror_each_other(seed, of_patients, worse):
    right, label, inside, patient = drawn(seed, worse=worse, of_patients=of_patients)
    rates, mirror = side_rates(right, label, inside, patient), side_rates(right, label, ~inside, patient)
    low, high = difference_ends(rates)
    p = difference_p(rates)
    assert (p <= 0.05) == (not low <= 0 <= high) or abs(p - 0.05) < 1e-6
    assert np.allclose(difference_ends(mirror), (-high, -low)) and np.isclose(difference_p(mirror), p)
    by_hand = np.mean([right[inside & (label == c)].mean() - right[~inside & (label == c)].mean() for c in "ab"])
    assert np.isclose(sum(r.weight * r.value for r in rates), by_hand) and low <= by_hand <= high


def test_a_class_that_one_side_lacks_is_not_compared():
    right, label, inside, patient = drawn(1)
    inside = inside & (label == "a")
    rates = side_rates(right, label, inside, patient)
    assert len(rates) == 2
    value = right[inside].mean() - right[~inside & (label == "a")].mean()
    assert np.isclose(sum(r.weight * r.value for r in rates), value)
    assert side_rates(right, label, label == "a", patient) == []


def test_patients_who_are_always_right_still_leave_an_interval():
    right, label, inside, patient = drawn(0)
    right[:] = True
    low, high = difference_ends(side_rates(right, label, inside, patient))
    assert low < -0.02 and high > 0.02 and difference_p(side_rates(right, label, inside, patient)) == 1


def test_copies_of_images_do_not_make_a_group_worse():
    "Twenty copies of every image of every patient say no more than one."
    right, label, inside, patient = drawn(3, images=1, worse=0.9)
    one = difference_p(side_rates(right, label, inside, patient))
    many = [np.repeat(v, 20, 0) for v in (right, label, inside, patient)]
    assert abs(difference_p(side_rates(*many)) - one) < 0.1


def test_false_alarms_stay_below_five_percent_and_a_worse_group_is_found_as_often_as_told():
    alarms = np.mean([difference_p(side_rates(*drawn(seed))) <= 0.05 for seed in range(300)])
    assert alarms <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 300)
    found, told = [], []
    for seed in range(200):
        rates = side_rates(*drawn(seed, worse=0.9))
        found.append(difference_p(rates) <= 0.05)
        told.append(detectable(sum(r.weight * r.value for r in rates), difference_ends(rates)[1]))
    true = stats.norm.cdf(1.2) - stats.norm.cdf(0.3)
    # the power that the width of the intervals promises for the difference that there is
    promised = stats.norm.cdf(true / np.mean(told) * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) - 1.96)
    assert abs(np.mean(found) - promised) < 0.1


# rows of a report


@pytest.fixture(scope="module")
def study():
    X, table = made_up_study()
    s = make_settings(n_splits=0, cv_repeats=2, positive="abnormal", classifiers=["svm"])
    return evaluate(X, table, s), table.set_index("file_name")


def columns(table, **values):
    return {c: pd.Series(value_groups(v, table.group.to_numpy()), table.index) for c, v in values.items()}


def test_a_row_for_each_group_small_ones_named_and_not_judged(study):
    predictions, table = study
    number = table.group.str[-2:].astype(int)
    rows = subgroup_rows(predictions, columns(table, sex=np.where(number < 20, "f", "m"),
                                              rare=np.where(number < 5, "yes", "no")), "abnormal")
    assert [(r["column"], r["group"], r["judged"]) for r in rows] == [
        ("sex", "f", True), ("sex", "m", True), ("rare", "no", True), ("rare", "yes", False)]
    assert rows[0]["n_images"] == 100 and rows[0]["n_patients"] == 20
    assert "metrics" not in rows[3] and "p" not in rows[3] and "p" not in rows[2]  # five patients are no rest either
    assert rows[0]["p"] == rows[0]["p_adjusted"] == rows[1]["p_adjusted"]  # one test
    assert len(rows[0]["metrics"]) == 10


def test_a_group_of_one_class_is_judged_by_the_rate_it_has(study):
    predictions, table = study
    number = table.group.str[-2:].astype(int)
    one = np.where((table.label == "abnormal") & (number < 24), "a", "b")
    row = subgroup_rows(predictions, columns(table, kind=one), "abnormal")[0]
    assert row["metric"] == "sensitivity" and np.isnan(row["metrics"]["specificity"]["value"])
    same = np.where(table.label == "abnormal", "a", "b")
    row = subgroup_rows(predictions, columns(table, kind=same), "abnormal")[0]
    assert row["judged"] and "p" not in row  # nothing outside has its class


def test_images_without_patients_and_many_classes():
    X, table = made_up_study(n_classes=3)
    s = make_settings(n_splits=0, cv_repeats=1, classifiers=["svm"])
    table = table.assign(group="")
    predictions = evaluate(X, table, s)
    table = table.set_index("file_name")
    two = np.where(table.label == "class a", "only a", np.where(np.arange(195) % 2, "x", ""))
    rows = subgroup_rows(predictions, columns(table, kind=two), None)
    assert [r["group"] for r in rows] == ["only a", "x", "not named"]
    assert all(r["n_patients"] is None and r["judged"] for r in rows)
    assert "p" not in rows[0] and rows[1]["metric"] == "mean recall of the classes both have"
    assert rows[1]["difference"]["units"] == "images"
