"""Each site left out, and how much of the features is the site."""

import numpy as np
import pandas as pd
import pytest

from leuknb.core import rng
from leuknb.evaluation.predict import evaluate, labelled_images, made_up_study
from leuknb.evaluation.sites import leave_one_site_out, paired_drop, site_index, site_rows, site_splits
from leuknb.settings import make_settings

SETTINGS = make_settings(n_splits=0, cv_repeats=2, positive="abnormal", classifiers=["svm", "tree"])


@pytest.fixture(scope="module")
def made():
    X, table = made_up_study()
    number = table.group.str[-2:].astype(int)
    return X, table.assign(site=(number // 2 % 3).map({0: "A", 1: "B", 2: "C"}))


def test_no_site_no_patient_and_no_unnamed_image_is_on_both_sides(made):
    X, table = made
    table = table.assign(site=np.where(np.arange(195) < 10, "", table.site))
    table.loc[table.index[-1], "site"] = "A" if table.site.iloc[-1] != "A" else "B"  # a patient of two sites
    who = labelled_images(table, SETTINGS)
    for s, (train, test) in site_splits(who, table.site.to_numpy(object)).items():
        assert set(table.site.iloc[test]) == {s} and s not in set(table.site.iloc[train])
        assert not set(table.group.iloc[train]) & set(table.group.iloc[test]) and "" not in set(table.site.iloc[train])


def test_small_sites_and_sites_whose_class_nobody_else_has_are_passed_over(made):
    X, table = made
    site = np.where(table.label == "abnormal", "A", "B").astype(object)
    assert "no other site has class" in site_splits(labelled_images(table, SETTINGS), site)["A"]
    site = np.array(["A"] * 100 + ["B"] * 90 + ["C"] * 5, object)
    found = site_splits(labelled_images(table, SETTINGS), site)
    assert found["C"] == "fewer than 10 images" and not isinstance(found["A"], str)
    nothing, passed = leave_one_site_out(X, table.assign(site="A"), SETTINGS)
    assert nothing is None and list(passed) == ["A"]


def test_only_the_first_classifier_is_fitted_and_the_same_again(made):
    X, table = made
    one, two = (leave_one_site_out(X, table, SETTINGS)[0] for _ in range(2))
    assert set(one.model) == {"svm"} and one.equals(two) and one.file_name.is_unique


def test_the_numbers_of_a_site_are_those_of_its_images(made):
    X, table = made
    predictions = pd.concat([evaluate(X, table, SETTINGS), leave_one_site_out(X, table, SETTINGS)[0]])
    rows, together = site_rows(predictions, table.set_index("file_name").site, "abnormal")
    for r in rows:
        names = set(table.file_name[table.site == r["site"]])
        t = predictions[predictions.file_name.isin(names) & (predictions.model == "svm")]
        for part, scheme in (("left_out", "sites"), ("cv", "cv")):
            own = t[t.scheme == scheme]
            assert np.isclose(r[part]["accuracy"]["value"], (own.label == own.predicted).mean())
        assert np.isclose(r["difference"]["value"], r["left_out"]["balanced_accuracy"]["value"]
                          - r["cv"]["balanced_accuracy"]["value"])
    assert together["n_images"] == 195 and together["n_patients"] == 39
    alone, _ = site_rows(leave_one_site_out(X, table, SETTINGS)[0], table.set_index("file_name").site, "abnormal")
    assert "cv" not in alone[0] and "difference" not in alone[0]


def test_the_drop_has_a_width_even_where_nothing_changes():
    right = np.ones((40, 1), bool)
    drop = paired_drop(right, np.ones((40, 3), bool), np.repeat(["a", "b"], 20), np.repeat(np.arange(20), 2))
    assert drop.value == 0 and drop.low < -0.05 and drop.high > 0.05


@pytest.mark.parametrize("trace", [0, 4])
def test_the_index_sees_a_site_that_is_there_and_none_that_is_not(trace):
    p = []
    for seed in range(20):
        g = rng(seed, "test of the site index")
        patient = np.repeat(np.arange(30), 4)
        y, site = patient % 2, np.array(["A", "B", "C"], object)[patient // 2 % 3]
        look = g.normal(size=(3, 10)) * trace / 4
        X = g.normal(size=(120, 10)) + y[:, None] * (np.arange(10) < 3) + look[patient // 2 % 3] + 0.7 * g.normal(
            size=(30, 10))[patient]
        p.append(site_index(X, y, site, patient)["p"])
    assert np.mean(np.array(p) <= 0.05) >= 0.9 if trace else np.mean(np.array(p) <= 0.05) <= 0.2


def test_the_index_leaves_out_what_it_cannot_compare():
    g = rng(0, "test of the site index, one class")
    X, y = g.normal(size=(40, 5)), np.repeat([0, 1], 20)
    assert site_index(X, y, np.where(y, "A", "B").astype(object)) is None  # no site has both classes
    found = site_index(X, y, np.array(["A", "B", "", "A"] * 10, object))
    assert found["share"]["n"] == 30
