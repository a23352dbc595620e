"""Warnings of the numbers: raised for few cases, few patients, one big patient and chance; silent on a sound set."""

import numpy as np
import pytest

from leuknb.evaluation.warnings import FEW_PATIENTS, FEW_UNITS, number_warnings, units_by_class


def run(low=0.8, high=0.95, n_patients=40, **more):
    rate = {"value": (low + high) / 2, "ci": [low, high], "n": 40, "units": "patients"}
    return {"dataset": {"classes": ["abnormal", "normal"], "n_patients": n_patients},
            "cv": {"models": {"svm": {"balanced_accuracy": rate}}}, **more}


def people(n, images=4, share=0.5):
    sick = round(n * share)
    return np.array(["abnormal"] * sick * images + ["normal"] * (n - sick) * images, object), np.repeat(
        [f"p{i}" for i in range(n)], images).astype(object)


def codes(*args): return [w["code"] for w in number_warnings(*args)]


def test_a_sound_set_raises_nothing():
    assert codes(run(), *people(40)) == [] and codes(run(n_patients=None), people(40)[0], None) == []


@pytest.mark.parametrize("n", [FEW_UNITS - 1, FEW_UNITS])
def test_the_rarer_class_is_small_below_ten_patients_however_many_images_it_has(n):
    label, group = people(60, share=n / 60)
    assert (codes(run(), label, group) == ["LKB301"]) == (n < FEW_UNITS)
    assert units_by_class(label, group)["abnormal"] == n and units_by_class(label)["abnormal"] == 4 * n


@pytest.mark.parametrize("n", [FEW_PATIENTS - 2, FEW_PATIENTS])
def test_patients_are_few_below_twenty(n):
    label, group = people(n, share=0.5)
    assert ("LKB303" in codes(run(n_patients=n), label, group)) == (n < FEW_PATIENTS)


def test_one_patient_is_big_by_share_and_not_because_there_are_few():
    label, group = people(40)
    group[:40] = "giant"
    assert codes(run(), label, group) == ["LKB302"]
    assert "LKB302" not in codes(run(n_patients=6), *people(6))
    assert codes(run(n_patients=None), label, None) == []


def test_votes_of_patients_are_said_where_they_were_counted():
    label, group = people(40)
    group[:40] = "giant"
    votes = {"patients": {"votes": {"svm": {"balanced_accuracy": {"value": 0.725, "ci": [0.6, 0.8]}}}}}
    said = number_warnings(run(**votes), label, group)[0]["text"]
    assert said.endswith("every patient the balanced accuracy is 72.5 % (60.0 to 80.0 %).")
    assert "every patient" not in number_warnings(run(), label, group)[0]["text"]


@pytest.mark.parametrize(("metrics", "raised"), [
    (run(0.51, 0.7), False), (run(0.5, 0.7), True), (run(0.2, 0.4), True),
    (run(permutation={"p": 0.2}), True), (run(permutation={"p": 0.01}), False), (run(permutation={"p": None}), False),
    (run(permutation={"p": 0.3, "smallest_p": 0.1}), False)])
def test_chance_is_named_by_the_interval_or_by_shuffled_labels_that_could_have_said_otherwise(metrics, raised):
    assert codes(metrics, *people(40)) == (["LKB304"] if raised else [])


def test_an_interval_that_is_not_there_does_not_count_as_above_chance():
    metrics = run()
    del metrics["cv"]["models"]["svm"]["balanced_accuracy"]["ci"]
    assert "has no interval" in number_warnings(metrics, *people(40))[0]["text"]
