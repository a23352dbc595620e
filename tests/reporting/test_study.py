"""What a run keeps: predictions are looked up by all that shapes them, and by nothing else; the headline is a
section of its own.
"""
import types

import numpy as np
import pandas as pd
import pytest

from leuknb import plotting
from leuknb import core
from leuknb.evaluation import plots, predict
from leuknb.reporting.headline import headline_section
from leuknb.reporting.keeping import evaluation_key, shaping_code
from leuknb.reporting.study import Study
from leuknb.settings import make_settings


@pytest.fixture
def study(tmp_path):
    table = pd.DataFrame({"file_name": ["a.png", "b.png"], "label": ["normal", "abnormal"], "group": ["p1", "p2"]})
    return Study(make_settings(), tmp_path, dataset=types.SimpleNamespace(usable=table), X=np.ones((2, 3), np.float32))


def changed(function, monkeypatch, home):
    "The same function from another text."
    def other(*args, **how): return function(*args, **how)

    other.__name__ = function.__name__
    monkeypatch.setattr(home, function.__name__, other)


def test_another_random_stream_or_another_way_to_predict_is_another_key(study, monkeypatch):
    key = evaluation_key(study)
    assert key == evaluation_key(study)
    for home, function in ((core, core.rng), (core, core.stream_seed), (predict, predict.evaluate),
                           (predict, predict.predict_splits)):
        with monkeypatch.context() as m:
            changed(function, m, home)
            assert evaluation_key(study) != key, function.__name__
    assert evaluation_key(study) == key


def test_the_colour_of_a_plot_throws_no_prediction_away(study, monkeypatch):
    key = evaluation_key(study)
    changed(plots.plot_bars, monkeypatch, plots)
    monkeypatch.setitem(plotting.PALETTE, "svm", "#000000")
    assert evaluation_key(study) == key
    assert not any("plot" in name or "colour" in name for name in shaping_code())


def test_other_features_labels_groups_or_settings_are_another_key(study):
    keys = [evaluation_key(study)]
    study.X = study.X + 1
    keys.append(evaluation_key(study))
    study.groups = np.array(["p1", "p1"], object)
    keys.append(evaluation_key(study))
    study.settings = make_settings(seed=1)
    keys.append(evaluation_key(study))
    study.dataset.usable.loc[0, "label"] = "abnormal"
    assert len({*keys, evaluation_key(study)}) == 5


def test_the_headline_is_the_balanced_accuracy_of_the_cross_validation_and_holds_all_warnings():
    e = lambda v: {"value": v, "ci": [0.8, 1.0], "n": 39, "units": "images"}
    rates = lambda v: {"svm": {m: e(v) for m in ("balanced_accuracy", "sensitivity", "specificity")}}
    metrics = {"holdout": {"models": rates(0.95)}, "cv": {"models": rates(0.9)},
               "audit": {"warnings": [{"code": "LKB103", "text": "copies"}]},
               "external": {"warnings": [{"code": "LKB401", "text": "shared"}]}}
    found = headline_section(metrics, [{"code": "LKB303", "text": "few"}], ["LKB103"])
    assert found == {"model": "svm", "scheme": "cv", "metric": "balanced_accuracy", "estimate": e(0.9),
                     "sensitivity": e(0.9), "specificity": e(0.9),
                     "warnings": [{"code": "LKB103", "text": "copies", "acknowledged": True},
                                  {"code": "LKB303", "text": "few"}, {"code": "LKB401", "text": "shared"}]}
    del metrics["cv"]
    assert (headline_section(metrics)["scheme"], headline_section(metrics)["estimate"]) == ("holdout", e(0.95))
