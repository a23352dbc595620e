"""Suspect labels: the closed form against fits that never saw the patient, what is found of planted errors, silence."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from leuknb.auditing.labels import (
    confident_joint, find_suspects, flip_rate, held_out_scores, label_probabilities, RIDGES, write_labels)
from leuknb.evaluation.predict import made_up_study


def as_dataset(table, labels):
    usable = table.assign(label=np.array(["normal", "abnormal"], object)[labels])
    return SimpleNamespace(y=labels, usable=usable, labels=usable.label.to_numpy(object),
                           classes=["abnormal", "normal"], positive="abnormal")


@pytest.fixture(scope="module")
def easy():
    X, table = made_up_study(effect=4, patient=0.3)
    return X, table, (table.label == "abnormal").to_numpy(int), table.group.to_numpy(object)


@pytest.mark.parametrize("grouped", (True, False))
def test_the_closed_form_is_a_ridge_regression_on_the_other_patients(easy, grouped):
    X, _, y, patient = easy
    scores = held_out_scores(X, y, patient if grouped else None)
    Z, own = (X - X.mean(0, dtype=float)) / X.std(0, dtype=float), patient == patient[7]
    if not grouped: own = np.arange(len(y)) == 7
    fits = [Ridge(alpha=r * (Z**2).sum() / len(Z), fit_intercept=False).fit(Z[~own], y[~own] - y.mean())
            .predict(Z[own]) + y.mean() for r in RIDGES]
    assert min(abs(scores[own, 1] - f).max() for f in fits) < 1e-6


def test_a_label_does_not_vouch_for_itself(easy):
    X, _, y, patient = easy
    turned = y.copy()
    turned[patient == patient[0]] = 1 - turned[patient == patient[0]]
    before, after = (held_out_scores(X, v, patient)[patient == patient[0], 1] for v in (y, turned))
    assert np.sign(before - 0.5).tolist() == np.sign(after - 0.5).tolist()  # its own patient's labels say nothing


def test_more_features_than_images_and_fewer_give_the_same(easy):
    X, _, y, patient = easy
    wide = np.hstack([X] + [np.zeros((len(X), 400), np.float32)])  # what never varies counts for nothing
    assert np.allclose(held_out_scores(X, y, patient), held_out_scores(wide, y, patient), atol=1e-6)


def test_planted_errors_are_found_and_clean_labels_are_not_warned_of(easy):
    X, table, y, patient = easy
    found, warned = [], 0
    for seed in range(10):
        wrong = np.random.default_rng(seed).permutation(len(y))[:10]
        labels = y.copy()
        labels[wrong] = 1 - labels[wrong]
        suspects = find_suspects(X, as_dataset(table, labels), patient)
        found.append(suspects.table.file_name.head(20).isin(table.file_name.iloc[wrong]).mean() * 2)
        warned += suspects.warning is not None
    assert np.mean(found) >= 0.7 and warned >= 3
    assert find_suspects(X, as_dataset(table, y), patient).warning is None


def test_the_share_of_wrong_labels_is_inside_its_interval_and_a_hard_task_is_not_taken_for_it():
    inside, alarms = 0, 0
    for seed in range(20):
        g = np.random.default_rng(seed)
        z = g.normal(0, 2, 1000)
        drawn = (g.random(1000) < 1 / (1 + np.exp(-z))).astype(int)  # a fifth is called wrongly by any model
        slips = np.where(g.random(1000) < 0.08, 1 - drawn, drawn)
        inside += (found := flip_rate(z, slips)).low <= (slips != drawn).mean() <= found.high
        alarms += flip_rate(z, drawn).p < 0.005
    assert inside >= 17 and alarms <= 1


def test_the_confident_joint_of_sure_probabilities_counts_what_is_contradicted():
    p = np.array([[0.9, 0.1]] * 6 + [[0.1, 0.9]] * 4)
    assert confident_joint(p, [0] * 5 + [1] * 5).tolist() == [[5, 0], [1, 4]]


def test_many_classes_have_a_list_and_no_estimate(tmp_path):
    X, table = made_up_study(4, effect=4)
    classes = sorted(set(table.label))
    y = np.array([classes.index(v) for v in table.label])
    dataset = SimpleNamespace(y=y, usable=table, labels=table.label.to_numpy(object), classes=classes, positive=None)
    suspects = find_suspects(X, dataset, table.group.to_numpy(object))
    assert suspects.metrics["expected_flips"] is None and suspects.metrics["p"] is None and suspects.warning is None
    assert suspects.table["rank"].tolist() == list(range(1, 196)) and suspects.table.probability.is_monotonic_increasing
    write_labels(suspects, tmp_path / "labels.csv")
    assert pd.read_csv(tmp_path / "labels.csv").columns.tolist() == ["file_name", "label", "suggested", "probability",
                                                                     "rank"]


def test_probabilities_of_an_image_do_not_use_its_patients_labels(easy):
    X, _, y, patient = easy
    scores = held_out_scores(X, y, patient)
    p = label_probabilities(scores, y, patient)
    assert np.allclose(p.sum(1), 1) and ((p >= 0) & (p <= 1)).all()
