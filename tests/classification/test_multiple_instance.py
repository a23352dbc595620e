"""Attention over the images of a patient: bags have no order, fits are repeatable, and what it is for works."""

import numpy as np
import pytest

from leuknb.classification.multiple_instance import attention_folds, AttentionMIL, kept_aside
from leuknb.core import InputError, rng


def bags(n_patients=50, size=10, width=12, effect=6.0, seed=0):
    g = rng(seed, "test bags")
    patient = np.repeat(np.arange(n_patients), size)
    X = g.normal(size=(len(patient), width))
    X[:, 0] += effect * ((patient % 2) * (np.arange(len(patient)) % size < 2))
    return X, patient % 2, np.array([f"p{p:02d}" for p in patient])


def test_images_may_come_in_any_order_and_the_fit_is_the_same_every_time():
    X, y, who = bags(30)
    fitted = AttentionMIL(n_components=8, n_networks=1, epochs=30).fit(X, y, who)
    p = fitted.predict_proba(X, who)
    order = rng(0, "order").permutation(len(X))
    assert fitted.predict_proba(X[order], who[order]) == pytest.approx(p)
    assert (AttentionMIL(n_components=8, n_networks=1, epochs=30).fit(X, y, who).predict_proba(X, who) == p).all()
    assert p.shape == (30, 2) and p.sum(1) == pytest.approx(np.ones(30))


def test_a_few_telling_images_in_a_bag_are_found_in_patients_never_seen():
    X, y, who = bags()
    fold = np.array([int(w[1:]) // 2 % 5 for w in who])
    names, p = attention_folds(X, y, who, fold)
    sick = np.array([int(n[1:]) % 2 for n in names])
    assert (p[sick == 1][:, None] > p[sick == 0]).mean() > 0.85


def test_labels_without_meaning_teach_nothing():
    X, _, who = bags(effect=0)
    y = np.array([int(w[1:]) % 2 for w in who])
    names, p = attention_folds(X, y, who, np.array([int(w[1:]) // 2 % 5 for w in who]))
    sick = np.array([int(n[1:]) % 2 for n in names])
    assert 0.2 < (p[sick == 1][:, None] > p[sick == 0]).mean() < 0.8


def test_those_kept_aside_are_of_both_classes_and_leave_both_to_learn_from():
    for y in (np.array([0, 0, 1, 1]), np.array([0] * 30 + [1] * 2), np.arange(73) % 7 // 6):
        aside = kept_aside(y, 0.2, 0)
        assert set(y[aside]) == set(y[~aside]) == {0, 1}


def test_mixed_patients_and_single_ones_of_a_class_are_refused():
    X, y, who = bags(10)
    with pytest.raises(InputError, match="both classes"): AttentionMIL().fit(X, np.arange(len(y)) % 2, who)
    one = (who == "p01") | (y == 0)
    with pytest.raises(InputError, match="two patients"): AttentionMIL().fit(X[one], y[one], who[one])
