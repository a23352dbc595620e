"""The floor and the ceiling beside the classifiers."""

import numpy as np
import pandas as pd
import pytest

from leuknb.evaluation.baselines import baseline_section, boosting, predict_boosting, predict_larger
from leuknb.evaluation.predict import evaluate, made_up_study
from leuknb.settings import make_settings

SETTINGS = make_settings(n_splits=0, cv_repeats=1, positive="abnormal", classifiers=["svm"])


def test_boosting_is_tested_on_the_folds_of_the_run():
    X, table = made_up_study()
    ours, theirs = predict_boosting(X, table, SETTINGS), evaluate(X, table, SETTINGS)
    theirs = theirs[theirs.scheme == "cv"].set_index("file_name").split
    assert ours.set_index("file_name").split.equals(theirs.loc[ours.file_name])
    assert predict_boosting(X, table, SETTINGS).equals(ours)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_section_has_every_baseline_and_the_larger_class_gives_one_over_the_classes(n_classes):
    X, table = made_up_study(n_classes)
    s = SETTINGS if n_classes == 2 else SETTINGS.model_copy(update={"positive": None})
    probes = [{"probe": "file", "auroc": {"value": 0.6}}, {"probe": "x", "auroc": {"value": None}}]
    found = baseline_section(pd.concat([predict_larger(table, s), predict_boosting(X, table, s)]), s.positive,
                             shortcuts=probes)
    assert list(found) == ["larger class", "boosting", "shortcut: file"]
    assert np.isclose(found["larger class"]["balanced_accuracy"]["value"], 1 / n_classes)
    assert np.isclose(found["larger class"]["auroc"]["value"], 0.5)
    assert "ci" not in found["larger class"]["balanced_accuracy"] and "ci" in found["larger class"]["accuracy"]
    assert np.isclose(found["larger class"]["accuracy"]["value"], table.label.value_counts(normalize=True).max())
    assert found["boosting"]["balanced_accuracy"]["ci"][0] > 1 / n_classes


def test_wide_features_are_narrowed_inside_the_fold_and_narrow_ones_are_not():
    assert [name for name, _ in boosting(1280, 156).pipeline.steps] == ["scale", "components", "classify"]
    assert boosting(1280, 156).pipeline["components"].n_components == 64
    assert boosting(1280, 20).pipeline["components"].n_components == 10
    assert [name for name, _ in boosting(40, 156).pipeline.steps] == ["classify"]
    assert boosting(40, 156, 8).pipeline["classify"].max_iter == 25
