"""Stress test: what each alteration does, which images, the model of the holdout, the section."""

import numpy as np
import pandas as pd
import pytest

from leuknb.core import InputError, rng
from leuknb.settings import make_settings, SyntheticSettings
from leuknb.data.datasets import load_dataset
from leuknb.data.synthetic import draw_batch, write_smears
from leuknb.evaluation.predict import labelled_images, predict_splits
from leuknb.evaluation.robustness import (
    altered_digests, altered_features, altered_images, GRADES, robustness_section, run_stress, stress_images, stressed,
    STRESSES)
from leuknb.evaluation.splits import random_splits
from leuknb.features.extraction import extract


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("LEUKNB_HOME", str(tmp_path_factory.mktemp("home")))
    data = write_smears(tmp_path_factory.mktemp("smears") / "set", SyntheticSettings(n_images=40, seed=4))
    settings = make_settings(data=str(data), image_size=64, classifiers=["svm"], stress=6)
    dataset = load_dataset(settings)
    who = labelled_images(dataset, settings, dataset.groups)
    [holdout] = random_splits(who.label, who.groups, 1, 0.3, 0, "holdout")
    yield dataset, settings, extract(dataset, settings), who, holdout
    patch.undo()


@pytest.mark.parametrize("kind", STRESSES)
def test_every_grade_is_further_from_the_image_and_grade_0_is_the_image(kind):
    rgb = draw_batch(SyntheticSettings(n_images=4), side=128).rgb[0]
    moved = [abs(stressed(rgb, kind, g).astype(float) - rgb).mean() for g in range(GRADES + 1)]
    assert moved[0] == 0 and moved == sorted(moved) and moved[1] > 0
    assert all(stressed(rgb, kind, g).shape == rgb.shape for g in range(GRADES + 1))


def test_the_same_generator_gives_the_same_noise_and_bad_grades_are_refused():
    rgb = np.full((20, 20, 3), 120, np.uint8)
    assert np.array_equal(*(stressed(rgb, "noise", 3, rng(1, "x")) for _ in range(2)))
    for kind, grade in (("blur", -1), ("blur", 6), ("melt", 1)):
        with pytest.raises(InputError): stressed(rgb, kind, grade)


def test_darkness_leaves_the_share_of_light_and_scale_keeps_the_whole_picture():
    rgb = np.full((40, 40, 3), 200, np.uint8)
    assert abs(stressed(rgb, "darkness", 4).mean() / 200 - 0.4) < 0.02
    rgb[15:25, 15:25] = 0
    assert abs((stressed(rgb, "scale", 5) < 100).mean() / (rgb < 100).mean() - 0.36) < 0.1


def test_chosen_images_are_held_out_balanced_and_of_as_many_patients_as_there_are(study):
    *_, who, (train, test) = study
    chosen = stress_images(who, test, 6)
    assert set(chosen) <= set(test) and np.bincount(who.y[chosen]).tolist() == [3, 3]
    most = sum(min(3, len(set(who.groups[test][who.y[test] == c]))) for c in (0, 1))
    assert len(set(who.groups[chosen])) == most


def test_unaltered_images_get_the_answers_of_the_holdout_and_a_second_run_says_the_same(study):
    dataset, settings, X, who, holdout = study
    table = run_stress(dataset, settings, X, who, holdout)
    held = predict_splits(X, who, [holdout], settings, "holdout").set_index("file_name").predicted
    plain = table[table.grade == 0]
    assert (held[plain.file_name].to_numpy() == plain.called.to_numpy()).all()
    pd.testing.assert_frame_equal(table, run_stress(dataset, settings, X, who, holdout))
    assert len(table) == 6 * len(STRESSES) * (GRADES + 1) and table.groupby(["kind", "grade"]).size().eq(6).all()


def test_features_lie_in_the_store_under_names_of_their_own(study, tmp_path):
    dataset, settings, X, who, (_, test) = study
    digests = {k: altered_digests(dataset, test[:2], k, 0) for k in STRESSES}
    assert len({d for v in digests.values() for d in v}) == 2 * 5 * len(STRESSES)
    made = altered_features(altered_images(dataset, test[:2], "jpeg", settings), digests["jpeg"], settings, tmp_path)
    assert np.array_equal(made, altered_features([], digests["jpeg"], settings, tmp_path))


def made_up_table(fall):
    rows = [{"file_name": str(i), "label": "a", "group": f"p{i // 2}", "kind": k, "grade": g, "called": "a",
             "right": not (k == "blur" and g == 5 and i < fall), "unlike": g == 5, "unsure": i < 10} for k in STRESSES
            for g in range(GRADES + 1) for i in range(40)]
    return pd.DataFrame(rows)


def test_the_section_pairs_each_image_with_itself():
    section = robustness_section(made_up_table(30))
    last = next(r for r in section if r["kind"] == "blur" and r["grade"] == 5)
    assert last["difference"]["value"] == pytest.approx(-0.75) and last["difference"]["ci"][1] < 0
    assert last["unlike"]["value"] == 1 and last["accuracy"]["value"] == pytest.approx(0.25)
    assert last["declined"]["value"] == 1 and last["answered"] == {"value": pytest.approx(np.nan, nan_ok=True), "n": 0,
                                                                   "units": "patients"}
    wrong = robustness_section(made_up_table(5).assign(unlike=False))[5]  # five of the ten that are declined are wrong
    assert wrong["kind"] == "blur" and wrong["declined"]["value"] == 0.25 and wrong["answered"]["value"] == 1
    only = robustness_section(made_up_table(5), noticed=("unsure",))[5]
    assert only["unlike"] is None and only["declined"]["value"] == 0.25
    same = next(r for r in section if r["kind"] == "jpeg" and r["grade"] == 3)
    assert same["difference"]["value"] == 0 and same["difference"]["ci"][0] < 0 < same["difference"]["ci"][1]
    assert robustness_section(made_up_table(0), noticed=())[5]["declined"] is None
