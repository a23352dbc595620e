"""The ablation: one change a step, the features of the steps, its tests against plain ones, and the page."""

import json

import numpy as np
import pandas as pd
import pytest

from leuknb.experiments import ablation
from leuknb.experiments.ablation import (
    chosen, columns_of, Design, feature_names, measure, price, run_ablation, sheet, STEPS, summary, svm_params)
from leuknb.core import InputError
from leuknb.settings import make_settings, PRESETS, SyntheticSettings
from leuknb.data.datasets import load_dataset
from leuknb.features.extraction import extract
from leuknb.evaluation.paired_tests import corrected_resampled_ttest

FEW = make_settings(synthetic=SyntheticSettings(n_images=12, images_per_patient=2))
QUICK = Design(2, 1, 2)
CHEAP = ["last layer", "five stages"]


def changed(step):
    "What a step changes of the one it is compared with; blocks and C of a kernel count as one."
    before = STEPS[step.after]
    features = [k for k in ("layers", "views", "region", "frames", "pooling", "backbone", "image_size")
                if step.features.get(k) != before.features.get(k)]
    return features + (["svm"] if step.svm != before.svm else []) + (["weights"] if step.weighed != before.weighed
        else [])


@pytest.mark.parametrize("name", [s.name for s in STEPS.values() if s.after])
def test_a_step_changes_one_thing(name):
    what = changed(STEPS[name])
    # the covariances of all five stages would be 90,000 numbers
    assert what == (["layers", "pooling"] if "covariances" in name else what[:1]) and what


@pytest.mark.parametrize("name,preset", [("adapted to blood", "demo"), ("and a second look", "best")])
def test_the_path_ends_at_the_presets(name, preset):
    wanted = make_settings(preset)
    names = feature_names(wanted)
    assert columns_of(STEPS[name], names).all()
    assert {k: getattr(wanted, k) for k in STEPS[name].features} == STEPS[name].features
    assert svm_params(STEPS[name], names) == {"C": PRESETS[preset]["params"]["svm"]["C"], "blocks": [len(names)]}


@pytest.mark.parametrize("name", ["five stages", "adapted to blood", "side: adapted, covariances"])
def test_columns_of_the_common_table_are_the_features_of_the_step_alone(name, tmp_path):
    settings = make_settings(synthetic=SyntheticSettings(n_images=4, images_per_patient=2))
    data, step = load_dataset(settings), STEPS[name]
    wide = sheet(step, chosen(), settings)
    shared = extract(data, wide, store=tmp_path / "a")[:, columns_of(step, feature_names(wide))]
    alone_settings = settings.model_copy(update=step.features)
    alone, names = extract(data, alone_settings, store=tmp_path / "b"), feature_names(alone_settings)
    order = [list(names).index(n) for n in feature_names(wide)[columns_of(step, feature_names(wide))]]
    np.testing.assert_allclose(shared, alone[:, order], rtol=1e-4, atol=1e-5)


def test_gains_are_the_corrected_t_of_the_same_folds_and_nothing_is_measured_twice(tmp_path):
    said = []
    (result,) = measure(["synthetic"], tmp_path, CHEAP, Design(3, 2, 4), 18, tell=said.append)
    assert len(said) == 2
    (again,) = measure(["synthetic"], tmp_path, CHEAP, Design(3, 2, 4), 18, tell=said.append)
    assert len(said) == 2
    pd.testing.assert_frame_equal(summary(result), summary(again))
    t = result["predictions"]
    right = (t.predicted == t.label).groupby([t.scheme, t.split, t.model]).mean().unstack()
    for scheme, n_groups in (("cv", 9), ("splits", 18)):
        d = (right["five stages"] - right["last layer"])[scheme]
        n_test = (t.scheme == scheme).sum() / 2 / len(d)
        found = corrected_resampled_ttest(d, 18 - n_test, n_test, n_groups)
        row = summary(result).query("scheme == @scheme and metric == 'accuracy' and step == 'five stages'").iloc[0]
        np.testing.assert_allclose([row.gain, row.gain_low, row.gain_high, row.p],
                                   [*found["difference"][:3], found["p"]])
    cv = t[t.scheme == "cv"]
    assert (cv.groupby(["model", "split", "group"]).size().groupby(["model", "group"]).nunique() == 1).all()
    assert set(price(result)["picked"]) == set(CHEAP)


def test_a_step_cut_off_before_its_end_is_measured_again(tmp_path):
    said = []
    measure(["synthetic"], tmp_path, ["last layer"], QUICK, 8, tell=said.append)
    next((tmp_path / "measured").glob("*.json")).unlink()  # written last
    measure(["synthetic"], tmp_path, ["last layer"], QUICK, 8, tell=said.append)
    measure(["synthetic"], tmp_path, ["last layer"], QUICK, 8, force=True, tell=said.append)
    assert len(said) == 3


@pytest.mark.parametrize("how,message", [({"data": []}, "no data set"),
                                         ({"steps": ["five stags"]}, "did you mean 'five stages'"),
                                         ({"data": ["no-such-folder"]}, "no-such-folder")])
def test_what_is_not_accepted_is_refused(how, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_ablation(**{"data": ["synthetic"], "out": tmp_path / "out", **how})


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something else"): run_ablation(["synthetic"], tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["letter.txt"]


def test_the_page_is_made_says_it_is_synthetic_and_names_no_path(tmp_path):
    page = run_ablation(["synthetic"], tmp_path / "out", CHEAP, tell=lambda line: None, design=QUICK, images=8)
    html, facts = page.read_text(), (tmp_path / "out" / "ablation.json").read_text()
    assert "Synthetic data" in html and "Research use only" in html and str(ablation.COMPARED) in html
    assert str(tmp_path) not in facts
    found = json.loads(facts)
    assert {r["step"] for r in found["rows"]} == set(CHEAP) and found["sets"][0]["synthetic"]
    assert (tmp_path / "out" / "figures" / "steps-0.png").is_file()


def test_two_splits_that_test_few_of_the_images_still_have_an_interval(tmp_path):
    (result,) = measure(["synthetic"], tmp_path, CHEAP[:1], Design(2, 1, 2), 12, tell=lambda line: None)
    assert result["predictions"].query("scheme == 'splits'").file_name.nunique() < 12
    assert summary(result).query("scheme == 'splits' and metric == 'accuracy'")[["low", "high"]].notna().all(axis=None)
