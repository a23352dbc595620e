"""Ridge regression without each patient: the closed form is the fit without them, at any shape of the features."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from leuknb.classification.ridge import directions, errors_without


@pytest.mark.parametrize("shape", [(60, 4), (60, 200), (61, 1)])
@pytest.mark.parametrize("grouped", [True, False])
def test_the_errors_are_those_of_fits_without_each_patient(shape, grouped):
    draw = np.random.default_rng(1)
    X, wanted = draw.normal(size=shape), draw.normal(size=(shape[0], 3))
    wanted -= wanted.mean(0)
    groups = draw.integers(9, size=shape[0]).astype(str) if grouped else None
    who = groups if grouped else np.arange(shape[0])
    Z, slow = (X - X.mean(0)) / X.std(0), np.empty(wanted.shape)
    for g in set(who):
        fitted = Ridge(alpha=3.0, fit_intercept=False).fit(Z[who != g], wanted[who != g])
        slow[who == g] = wanted[who == g] - fitted.predict(Z[who == g]).reshape(-1, 3)
    assert np.allclose(errors_without(*directions(X), 3.0, wanted, groups), slow, atol=1e-8)


def test_columns_without_spread_and_copies_of_columns_add_no_direction():
    X = np.random.default_rng(2).normal(size=(30, 3))
    wide = np.column_stack([X, X[:, 0], np.full(30, 7.0)])
    assert directions(wide)[0].shape == (30, 3) and np.isfinite(directions(np.full((30, 2), 1.0))[0]).all()
