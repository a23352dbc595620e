"""External validation: trained here and tested there is what the plain way gives, classes are matched or refused,
and drift is measured by patients.
"""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from leuknb.evaluation import shift
from leuknb.evaluation import external
from leuknb.evaluation.intervals import Estimate
from leuknb.classification.estimators import make_classifier
from leuknb.core import fingerprint, InputError, sha256
from leuknb.settings import make_settings
from leuknb.data.datasets import Dataset
from leuknb.evaluation.predict import evaluate

SETTINGS = make_settings(classifiers=["svm", "knn"], n_splits=0, cv_folds=3, cv_repeats=2)


def drawn(name, n, classes=("abnormal", "normal"), positive="abnormal", shift=0.0, seed=0, patients=True):
    "A dataset without files and its features: [n, 12], the first three tell the classes apart."
    draw = np.random.default_rng(seed)
    label = np.array([classes[i % 2] for i in range(n)], object)
    X = draw.normal(size=(n, 12)) + shift
    X[:, :3] += 1.5 * (label == positive)[:, None]
    names = [f"{name}{i}.png" for i in range(n)]
    table = pd.DataFrame({"file_name": names, "label": label,
                          "group": [f"p{i // 4 * 2 + i % 2}" if patients else "" for i in range(n)],
                          "sha256": [sha256(f.encode()) for f in names],
                          "width": 100, "height": 100, "mode": "RGB", "format": "PNG", "status": "ok", "why": ""})
    return X.astype(np.float32), Dataset(name, None, table, sorted(classes), positive, True)


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
    "Colours need files; the tests here are about numbers."
    monkeypatch.setattr(external, "colour_drift", lambda *a: {"red": Estimate(1.0, 0.9, 1.1, 100, "patients")})


def test_each_classifier_is_fitted_on_all_images_and_asked_about_the_other_set():
    X, here = drawn("here", 60)
    Z, there = drawn("there", 40, seed=1)
    found = external.external_predictions(X, here, Z, there, SETTINGS)
    for m in SETTINGS.classifiers:
        by_hand = make_classifier(m, **SETTINGS.params.get(m, {})).fit(X, here.y).predict(Z)
        assert (found[found.model == m].predicted == "abnormal").astype(int).tolist() == by_hand.tolist()
    assert set(found.scheme) == {"external"} and list(found.columns) == list(evaluate(X, here, SETTINGS).columns)


def test_classes_called_otherwise_are_matched_by_which_is_positive_and_turn_no_number_around():
    X, here = drawn("here", 60)
    Z, there = drawn("there", 40, seed=1)
    for classes, positive in ((("immature", "mature"), "immature"), (("A", "Z"), "Z"),
                              (("Abnormal", "Normal"), "Abnormal")):
        renamed = dataclasses.replace(there, classes=sorted(classes), positive=positive,
                                      table=there.table.assign(label=there.table.label.map({"abnormal": positive,
                                          "normal": next(c for c in classes if c != positive)})))
        a, b = (external.external_predictions(X, here, Z, d, SETTINGS) for d in (there, renamed))
        assert a.equals(b)


@pytest.mark.parametrize("classes,positive", [(["a", "b", "c"], None), (["x", "y"], None),
                                              (["abnormal", "normal"], "normal")])
def test_classes_that_cannot_be_matched_are_refused_with_both_lists(classes, positive):
    here = drawn("here", 20)[1]
    with pytest.raises(InputError, match=f"abnormal, normal.*{classes[0]}, {classes[1]}"):
        shift.match_classes(here, dataclasses.replace(here, name="there", classes=classes, positive=positive))


def test_more_than_two_classes_are_matched_by_name():
    draw = np.random.default_rng(0)
    here, there = ({"file_name": [f"{s}{i}" for i in range(60)], "label": [f"c{i % 3}" for i in range(60)]}
                   for s in "ab")
    sets = [Dataset(n, None, pd.DataFrame({**t, "group": "", "sha256": "", "width": 9, "height": 9, "status": "ok",
                                           "why": ""}), ["c0", "c1", "c2"], None, True) for n,
            t in (("here", here), ("there", there))]
    X = [draw.normal(size=(60, 5)).astype(np.float32) + 2 * (np.arange(60) % 3)[:, None] for _ in sets]
    found = external.external_validation(X[0], sets[0], X[1], sets[1], SETTINGS, evaluate(X[0], sets[0], SETTINGS))
    assert found.metrics["models"]["svm"]["accuracy"]["outside"]["value"] > 0.8 and "sensitivity" in found.metrics[
        "models"]["svm"]
    assert external.external_words(found.metrics)


def test_features_of_another_recipe_are_refused():
    X, here = drawn("here", 20)
    with pytest.raises(InputError, match="12 and 5 columns"):
        external.external_predictions(X, here, X[:, :5], here, SETTINGS)


@hypothesis_settings(max_examples=60, deadline=None)
@given(*(st.floats(0.01, 0.99) for _ in range(2)), *(st.floats(0, 0.2) for _ in range(4)))
def test_the_interval_of_a_difference_turns_with_its_sides_and_is_that_of_newcombe(a, b, w, x, y, z):
    one, other = Estimate(a, a - w, a + x, 40), Estimate(b, b - y, b + z, 60)
    (d, low, high), (e, lower, higher) = external.difference_of(one, other)[:3], external.difference_of(other, one)[:3]
    assert low <= d <= high and e == -d and lower == pytest.approx(-high) and higher == pytest.approx(-low)


def test_the_interval_of_a_difference_of_proportions_agrees_with_statsmodels():
    from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

    for k, n, j, m in ((56, 70, 48, 80), (9, 10, 3, 10), (10, 10, 0, 20)):
        wanted = confint_proportions_2indep(k, n, j, m, method="newcomb")
        a, b = proportion_confint(k, n, method="wilson"), proportion_confint(j, m, method="wilson")
        assert external.difference_of(Estimate(k / n, *a, n), Estimate(j / m, *b, m)).ci == pytest.approx(wanted,
            abs=1e-9)


def test_a_shift_of_the_features_is_seen_and_taken_back_by_recentring():
    X, here = drawn("here", 120)
    Z, there = drawn("there", 120, shift=np.r_[[2.0] * 3, [0.0] * 9], seed=1)
    found = external.external_validation(X, here, Z, there, SETTINGS, evaluate(X, here, SETTINGS)).metrics
    acc = found["models"]["svm"]["accuracy"]
    assert acc["drop"]["value"] > 0.15 and acc["drop"]["ci"][0] > 0
    assert found["recentred"]["accuracy"]["value"] > acc["outside"]["value"] + 0.1
    assert found["drift"]["features"]["set_auroc"]["value"] > 0.9 and found["drift"]["features"]["energy"]["p"] < 0.01
    words = " ".join(external.external_words(found))
    assert "falls by" in words and "can account for" in words and "can be told apart" in words
    assert "the linear SVM reaches a balanced accuracy of" in words and ", accuracy of" in words


def test_two_draws_of_the_same_hospital_are_not_told_apart():
    X, here = drawn("here", 120)
    Z, there = drawn("there", 120, seed=5)
    found = external.external_validation(X, here, Z, there, SETTINGS, evaluate(X, here, SETTINGS)).metrics
    assert found["drift"]["features"]["set_auroc"]["ci"][0] < 0.5 and found["drift"]["features"]["energy"][
        "p"] > 0.05 and found["shared_images"] == 0


def test_the_permutation_test_of_the_energy_distance_keeps_its_level_with_patients():
    p = []
    for i in range(60):
        draw = np.random.default_rng(i)
        people = [np.repeat(draw.normal(size=(10, 3)), 4, axis=0) + 0.3 * draw.normal(size=(40, 3)) for _ in range(2)]
        groups = [np.repeat([f"{s}{k}" for k in range(10)], 4) for s in "ab"]
        p.append(shift.energy_distance(*people, *groups, permutations=99, seed=i)["p"])
    assert np.mean(np.array(p) <= 0.1) <= 0.2
    blind = [shift.energy_distance(np.repeat(np.random.default_rng(i).normal(size=(10, 3)), 4, axis=0),
                                   np.repeat(np.random.default_rng(i + 99).normal(size=(10, 3)), 4, axis=0),
                                   permutations=99)["p"] for i in range(20)]
    assert np.mean(np.array(blind)
                   <= 0.1) > 0.5, "without patients the test would cry wolf: the one above is no accident"


def test_a_patient_photographed_ten_times_counts_once_in_a_standardised_difference():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=12), draw.normal(size=12) + 1
    one = shift.standardised_difference(np.repeat(a, 10), np.repeat(b, 10), np.repeat(np.arange(12), 10),
                                        np.repeat(np.arange(12), 10))
    se = math.sqrt(a.var(ddof=1) / 12 + b.var(ddof=1) / 12)
    assert one.high - one.value == pytest.approx(2.074 * se / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2), rel=0.06)


def test_images_in_both_sets_are_counted_and_said():
    X, here = drawn("here", 60)
    found = external.external_validation(X, here, X, here, SETTINGS, evaluate(X, here, SETTINGS)).metrics
    assert found["shared_images"] == 60 and any("byte for byte" in w for w in external.external_words(found))
    assert [w["code"] for w in found["warnings"]] == ["LKB401"] and found["warnings"][0]["text"].startswith("60 images")


def test_the_section_is_plain_json_and_the_same_twice():
    X, here = drawn("here", 60)
    Z, there = drawn("there", 40, seed=1)
    inside = evaluate(X, here, SETTINGS)
    a, b = (external.external_validation(X, here, Z, there, SETTINGS, inside).metrics for _ in range(2))
    assert fingerprint(a) == fingerprint(b)


def told(inside, outside, fall, auroc_fall=(0.0, -0.02, 0.02), best=None, again=None):
    "A section with made-up balanced accuracies, and what is said of it."
    one = lambda v, *ends: {"value": v, "ci": list(ends) if ends else [v - 0.05, min(v + 0.05, 1)], "n": 40}
    metric = {"inside": one(inside), "outside": one(outside), "drop": one(inside - outside, *fall)}
    section = {"name": "other", "n_images": 80, "counts": {"a": 40, "b": 40}, "warnings": [],
               "models": {"svm": {"inside_scheme": "cv", "balanced_accuracy": metric, "accuracy": metric,
                                  "auroc": {"drop": one(*auroc_fall)}}},
               "recentred": {m: one(outside if again is None else again) for m in ("balanced_accuracy", "accuracy")},
               "best_balanced_accuracy": best, "failing_where_unlike": None,
               "drift": {"colour": {}, "size": {"median_here": [1, 1], "median_there": [1, 1], "unseen_share": 0.0},
                         "features": {"energy": {"distance": 0.1, "null_mean": 0.1, "p": 0.5},
                                      "set_auroc": one(0.5)}}}
    return " ".join(external.external_words(section))


def test_no_more_of_a_fall_is_explained_than_there_is_and_nothing_of_one_in_doubt():
    assert "can account for all 10.0 points" in told(0.9, 0.8, (0.02, 0.18), again=0.95)
    assert "can account for 5.0 of the 10.0 points" in told(0.9, 0.8, (0.02, 0.18), again=0.85)
    assert "does not explain the fall" in told(0.9, 0.8, (0.02, 0.18), again=0.7)
    doubtful = told(0.9, 0.85, (-0.02, 0.12), again=1.0, best=1.0)
    assert "cannot tell" in doubtful and "plain shift" not in doubtful and "threshold" not in doubtful


def test_another_threshold_is_blamed_only_where_it_was_shown_to_mend_most():
    held = told(0.9, 0.8, (0.02, 0.18), best=0.95)
    assert "would bring back 10.0 of the 10.0 points" in held and "upper bound" in held
    assert "threshold" not in told(0.9, 0.8, (0.02, 0.18), best=0.84)  # mends less than half
    assert "threshold" not in told(0.9, 0.8, (0.02, 0.18), (0.02, -0.1, 0.14), best=0.95)  # the order may have fallen
    assert "threshold" not in told(0.9, 0.8, (0.02, 0.18), (0.03, 0.01, 0.04), best=0.95)  # it has
    assert "easier one" in told(0.8, 0.9, (-0.18, -0.02), best=0.95)


def test_the_best_threshold_is_that_of_a_search_over_all():
    for seed in range(20):
        draw = np.random.default_rng(seed)
        y, score = draw.integers(0, 2, 30), draw.normal(size=30).round(draw.integers(0, 3))
        by_hand = max(((score >= t)[y == 1].mean() + (score < t)[y == 0].mean()) / 2 for t in [*score, 9])
        assert external.best_balanced_accuracy(y, score) == pytest.approx(by_hand)
    assert math.isnan(external.best_balanced_accuracy([1, 1], [0, 1]))


def test_another_set_of_one_class_is_told_of_by_accuracy():
    X, here = drawn("here", 60)
    Z, there = drawn("there", 40, seed=1)
    only = dataclasses.replace(there, table=there.table.assign(
        status=np.where(there.table.label == "normal", "ok", "skipped")))
    found = external.external_validation(X, here, Z[::1][(there.table.label == "normal").to_numpy()], only, SETTINGS,
                                         evaluate(X, here, SETTINGS)).metrics
    words = " ".join(external.external_words(found))
    assert "balanced" not in words and "accuracy of" in words and "nan" not in words
