"Auto chooses as many splits and repeats as a stated error needs, and nothing of a small set changes by it."

import numpy as np
import pandas as pd
import pytest

from leuknb.core import InputError, rng
from leuknb.evaluation import predict, repetitions
from leuknb.evaluation.splits import cv_splits, random_splits
from leuknb.settings import make_settings


@pytest.mark.parametrize("n", [20, 195, 250])
def test_sets_as_small_as_the_papers_have_200_splits_and_10_repeats(n):
    assert [repetitions.first_guess(s, make_settings(), n) for s in ("splits", "cv")] == [200, 10]
    assert repetitions.curve_draws(make_settings(), n) == 5


def test_fewer_are_made_the_more_images_there_are():
    guesses = [[repetitions.first_guess(s, make_settings(), n) for s in ("splits", "cv")]
               for n in (195, 500, 1_548, 5_000, 17_092)]
    assert guesses == sorted(guesses, reverse=True) and guesses[-1] == [5, 1]


@pytest.mark.parametrize("sd", [0.01, 0.03, 0.06])
def test_the_mean_of_as_many_as_are_enough_is_as_exact_as_stated(sd):
    n, why = repetitions.enough("splits", 400, sd)
    means = (0.9 + sd * rng(0, "exact", int(1000 * sd)).normal(size=(4_000, n))).mean(1)
    assert why == "precision" and means.std() < 1.05 * repetitions.PRECISION
    assert n == 5 or sd / np.sqrt(n - 1) > repetitions.PRECISION  # and not one more


def test_a_wide_spread_of_a_large_set_is_bounded_by_the_cost():
    assert repetitions.enough("splits", 13_674, 0.2) == (7, "cost")
    assert repetitions.enough("cv", 4 * 17_092, 0.2) == (1, "cost")
    assert repetitions.enough("splits", 156, 0.2) == (200, "most")


@pytest.fixture(scope="module")
def study():
    X, table = predict.made_up_study()
    return X, predict.labelled_images(table, make_settings(positive="abnormal"))


@pytest.mark.parametrize("scheme, numbers", [("splits", (3, 8, 11)), ("cv", (1, 3, 4))])
def test_splits_made_later_are_those_that_would_have_been_made_at_once(study, monkeypatch, scheme, numbers):
    X, who = study
    first, second, last = numbers
    asked = iter([second, last, last])
    monkeypatch.setattr(predict, "first_guess", lambda *_: first)
    monkeypatch.setattr(predict, "more_needed", lambda *_: next(asked))
    make = {"splits": lambda n: random_splits(who.label, who.groups, n, 0.2, 0),
            "cv": lambda n: cv_splits(who.label, who.groups, 5, n, 0)}[scheme]
    name = {"splits": "n_splits", "cv": "cv_repeats"}[scheme]
    found = [predict.predict_enough(X, who, make_settings(positive="abnormal", classifiers=["svm", "tree"],
                                                          **{name: n}), scheme, make) for n in ("auto", last)]
    pd.testing.assert_frame_equal(*found)
    assert found[0]["split"].nunique() == last * (1 if scheme == "splits" else 5)


def test_auto_goes_on_while_the_spread_asks_for_it(study, monkeypatch):
    X, who = study
    monkeypatch.setattr(predict, "first_guess", lambda *_: 2)
    s = make_settings(positive="abnormal", classifiers=["knn"])
    t = predict.predict_enough(X, who, s, "splits", lambda n: random_splits(who.label, who.groups, n, 0.2, 0))
    said = repetitions.repetitions(t, s, "splits")
    assert said["n"] == t["split"].nunique() > 20 and said["chosen"] == "auto"
    assert said["why"] == "most" or said["mean"]["knn"] <= repetitions.PRECISION


def test_the_same_predictions_whether_auto_or_the_numbers_it_chooses_are_asked_for():
    X, table = predict.made_up_study()
    s = make_settings(positive="abnormal", classifiers=["knn"])
    pd.testing.assert_frame_equal(predict.evaluate(X, table, s),
                                  predict.evaluate(X, table, make_settings(positive="abnormal", classifiers=["knn"],
                                                                           n_splits=200, cv_repeats=10)))


def test_what_a_section_says_of_its_error_is_counted_from_the_predictions():
    rows = [(f"{i}", "a", "a" if (i + r) % 4 else "b", "svm", "cv", 2 * r + i % 2) for r in range(3) for i in range(8)]
    t = pd.DataFrame(rows, columns=["file_name", "label", "predicted", "model", "scheme", "split"])
    t.loc[0, "predicted"] = "a"
    said = repetitions.repetitions(t, make_settings(cv_folds=2, cv_repeats=3), "cv")
    values = [(t["label"] == t["predicted"])[t["split"] // 2 == r].mean() for r in range(3)]
    assert (said["n"], said["chosen"], said["why"]) == (3, "setting", None) and "quantiles" not in said
    assert said["mean"]["svm"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    once = repetitions.repetitions(t[t["split"] < 2], make_settings(cv_folds=2, cv_repeats=1), "cv")
    assert once["mean"] == {"svm": None}


@pytest.mark.parametrize("name", ["n_splits", "cv_repeats", "learning_curve"])
@pytest.mark.parametrize("value", ["often", -1, 0.5, None])
def test_what_is_neither_a_number_nor_auto_is_refused_in_one_line(name, value):
    with pytest.raises(InputError, match="or auto") as e: make_settings(**{name: value})
    assert name in str(e.value) and "\n" not in str(e.value)


def test_a_long_evaluation_says_beforehand_how_long_it_takes_and_a_short_one_nothing():
    told = repetitions.time_told(make_settings(n_splits=20, cv_repeats=4), 1_000, True, 3.0)
    assert "about 3 min" in told and "20 random splits and 4 x 5 folds" in told  # 3 s x (20 + 4 x 5 x 2)
    assert repetitions.time_told(make_settings(n_splits=20, cv_repeats=4), 1_000, True, 0.1) == ""
