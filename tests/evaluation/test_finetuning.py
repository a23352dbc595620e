"""Fine-tuning beside direct extraction: in the report's folds, blind to test images, within its budget, kept fold by
fold.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leuknb.core import InputError
from leuknb.data.datasets import load_dataset
from leuknb.evaluation import finetuning
from leuknb.evaluation.finetuning import (
    direct_folds, finetune_fold, finetuning_section, first_trained, last_stage, LOOKS, PARTS, SCHEME, training_recipe,
    Trial, TUNED)
from leuknb.evaluation.predict import evaluate
from leuknb.features.adaptation import all_cores, Trainer
from leuknb.features.backbones import build, describe
from leuknb.settings import make_settings

FEW = {"n_images": 24, "n_abnormal": 12, "images_per_patient": 2}
SETTINGS = make_settings(synthetic=FEW, image_size=32, classifiers=["svm"], cv_folds=3, cv_repeats=1, n_splits=0,
                         finetune="last", finetune_epochs=3)


@pytest.fixture(scope="module")
def dataset(): return load_dataset(SETTINGS)


@pytest.fixture(scope="module")
def X(dataset): return np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32) + dataset.y[:, None]


@pytest.fixture
def kept():
    "What was kept, and what was made, by key."
    store, made = {}, []

    def keep(key, make):
        if key not in store:
            made.append(key)
            store[key] = make()
        return store[key]

    keep.store, keep.made = store, made
    return keep


@pytest.fixture(scope="module")
def whole(dataset): return Trial(dataset, SETTINGS).run()


def test_folds_are_those_of_the_report_and_every_image_is_answered_for_once_at_each_look(dataset, X, whole):
    cv = evaluate(X, dataset, SETTINGS).query("scheme == 'cv'")
    for k, table in enumerate(whole):
        assert set(table["file_name"]) == set(cv["file_name"][cv["split"] == k])
        assert table.groupby("look")["file_name"].nunique().tolist() == [len(cv[cv["split"] == k])] * len(LOOKS)
    assert len(whole) == 3 and not set(whole[0]["group"]) & set(whole[1]["group"])
    assert all((t.groupby("look")["seconds"].max().diff().dropna() > -0.5).all() for t in whole)


def test_no_test_image_is_learnt_from(dataset, monkeypatch):
    trial, learnt = Trial(dataset, SETTINGS), []
    numbered = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None], (24, 32, 32, 3)).copy()
    monkeypatch.setattr(Trainer, "step", lambda self, t, images, y, g: learnt.extend(images[:, 0, 0, 0].tolist()))
    train, test = trial.folds[0]
    finetune_fold(numbered, trial.who.y, (train, test), trial.recipes[0], 2)
    assert set(learnt) <= set(train.tolist()) and not set(learnt) & set(test.tolist())


def test_the_labels_of_test_images_change_no_answer_and_the_same_seed_gives_the_same(dataset):
    trial = Trial(dataset, SETTINGS)
    train, test = trial.folds[0]
    y = trial.who.y.copy()
    y[test] = 1 - y[test]
    short = trial.recipes[0].model_copy(update={"steps": 2})
    with all_cores():
        one, other = (finetune_fold(trial.pixels, labels, (train, test), short, 2) for labels in (trial.who.y, y))
        seeded = finetune_fold(trial.pixels, y, (train, test), short.model_copy(update={"seed": 5}), 2)
    assert all(np.array_equal(a, b) for (_, _, a), (_, _, b) in zip(one, other))
    assert not np.array_equal(one[-1][2], seeded[-1][2])


@pytest.mark.parametrize(("part", "stays"), [("head", "blocks.6"), ("last", "blocks.4"), ("all", None)])
def test_only_the_asked_part_learns(part, stays):
    import torch

    backbone = describe("efficientnet_lite0")
    name, learning, weights = first_trained(backbone, part)
    settings = SETTINGS.model_copy(update={"finetune": part})
    trainer = Trainer(backbone, 2, training_recipe(settings, name, 16, 0))
    before = {k: v.clone() for k, v in trainer.modules["model"].state_dict().items()}
    with all_cores():
        trainer.step(0, np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), np.arange(4) % 2,
                     np.random.default_rng(0))
    moved = {k for k, v in trainer.modules["model"].state_dict().items() if not torch.equal(v, before[k])}
    assert any(k.startswith("classifier") for k in moved) and 0 < learning <= weights
    if stays: assert not [k for k in moved if k.startswith((stays, "conv_stem"))]
    if part == "head": assert {k.split(".")[0] for k in moved} == {"classifier"}
    if part == "all": assert learning == weights and any(k.startswith("conv_stem") for k in moved)


@pytest.mark.parametrize(("name", "stage"), [("efficientnet_lite0", "blocks.5"), ("resnet18", "layer4"),
                                             ("alexnet", "classifier"), ("timm:vit_tiny_patch16_224", "blocks.11")])
def test_the_last_stage_begins_where_maps_get_their_last_size(name, stage):
    assert last_stage(build(name), 224) == stage


def test_the_budget_says_how_many_folds_and_a_killed_run_goes_on_with_the_next(dataset, kept, monkeypatch):
    seconds = iter([10.0, 11.0, 12.0])

    def fake(pixels, y, fold, recipe, classes, what=""):
        now = next(seconds)
        return [(i + 1, now * (i + 1) / 5, np.full((len(fold[1]), 2), 0.5)) for i in range(5)]

    monkeypatch.setattr(finetuning, "finetune_fold", fake)
    ask = lambda budget: Trial(dataset, SETTINGS.model_copy(update={"finetune_seconds": budget}), keep=kept)
    monkeypatch.setattr(Trial, "foretold", lambda self: 10.0)
    assert len(ask(9.9).run()) == 0 and not kept.made
    assert len(ask(19.9).run()) == 1 and len(kept.made) == 1
    assert len(ask(30.0).run()) == 2 and len(kept.made) == 2  # the first was kept
    assert len(ask(31.4).run()) == 2  # 10 + 11 + 10.5
    assert len(ask(600.0).run()) == 3 and len(kept.made) == 3


def test_what_shapes_a_fold_tells_its_key_and_what_does_not_leaves_it(dataset):
    key = lambda **changes: Trial(dataset, SETTINGS.model_copy(update=changes)).key("fold", 0)
    assert key() == key(finetune_seconds=5.0) == key(n_splits=7, permutations=3)
    assert len({key(), key(seed=1), key(finetune="head"), key(finetune_epochs=9), key(image_size=48)}) == 5


def test_the_first_classifier_answers_as_in_the_report(dataset, X):
    trial = Trial(dataset, SETTINGS)
    cv = evaluate(X, dataset, SETTINGS).query("scheme == 'cv' and split < 2").reset_index(drop=True)
    found = direct_folds(trial, X, 2)
    pd.testing.assert_frame_equal(found[cv.columns].assign(scheme="cv"), cv)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_section_holds_both_ways_on_the_images_of_the_folds_that_were_trained(dataset, X, whole, n, monkeypatch):
    monkeypatch.setattr(Trial, "run", lambda self: whole[:n])
    monkeypatch.setattr(Trial, "foretold", lambda self: 1.0)
    section, both = finetuning_section(Trial(dataset, SETTINGS), X)
    assert (section["n_folds"], section["of_folds"]) == (n, 3)
    assert section["n_images"] == sum(t["file_name"].nunique() for t in whole[:n])
    assert set(both["scheme"]) == {SCHEME} and set(both["model"]) == {"svm", TUNED}
    for way in ("direct", "fine_tuned"):
        assert section[way]["seconds"] > 0
        for metric in ("balanced_accuracy", "auroc"):
            found = section[way][metric]
            assert 0 <= found["ci"][0] <= found["value"] <= found["ci"][1] <= 1 and found["units"] == "patients"
    assert section["curve"][-1]["auroc"] == section["fine_tuned"]["auroc"] and len(section["curve"]) == len(LOOKS)
    assert section["compared"]["words"]


def test_more_than_two_classes(dataset, X):
    table = dataset.table.copy()
    table.loc[table.index[:8], "label"] = "other"
    three = replace(dataset, table=table, classes=sorted(set(table["label"])), positive=None)
    trial = Trial(three, SETTINGS.model_copy(update={"finetune": "head", "finetune_epochs": 1, "cv_folds": 2}))
    section, both = finetuning_section(trial, X)
    assert {f"score_{c}" for c in ("abnormal", "normal", "other")} <= set(both) and section["n_folds"] == 2


def test_every_part_has_a_rate_and_another_is_refused():
    assert set(PARTS) == set(finetuning.RATES)
    with pytest.raises(InputError, match="finetune"): make_settings(finetune="haed")
    with pytest.raises(InputError, match="finetune"): first_trained(describe("efficientnet_lite0"), "haed")
