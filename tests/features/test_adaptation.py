"""Adaptation learns, leaves frozen stages alone, goes on where it was killed, and writes weights that know their
images.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import leuknb
from leuknb.core import InputError
from leuknb.data.datasets import load_dataset
from leuknb.data.images import decode, resize
from leuknb.features import adaptation
from leuknb.features.adaptation import adapt, last_features
from leuknb.features.adaptation_card import adapted_on
from leuknb.features.backbones import describe, load_backbone
from leuknb.features.batches import altered, Strengths
from leuknb.features.extraction import extract
from leuknb.features.fine_tuning import AdaptSettings
from leuknb.settings import make_settings, checked_settings

LAST = ("blocks.6", "conv_head", "bn2", "classifier")  # what learns
AGREEING = {"agreement": 0.9}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    "Settings of an adaptation of seconds, in a home of its own."
    home = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("LEUKNB_HOME", str(home))
    folder = tmp_path_factory.mktemp("cells")
    from leuknb.data.synthetic import synthetic_folder

    settings = make_settings(synthetic={"n_images": 48, "difficulty": 0.1})
    source = synthetic_folder(settings)
    for name in ("normal", "abnormal"):
        (folder / name).mkdir()
        for p in (source / name).iterdir(): (folder / name / p.name).write_bytes(p.read_bytes())
    (folder / "metadata.csv").write_bytes((source / "metadata.csv").read_bytes())
    yield {"data": str(folder), "image_size": 64, "train_from": "blocks.6", "steps": 32, "batch_size": 12,
           "learning_rate": 3e-3, "validation": 0.25, "validate_every": 16, "ema": 0.8, "checkpoint_seconds": 0.0}
    patch.undo()


def trained(settings: dict, folder) -> tuple:
    "A finished adaptation: its file, the history, what was told."
    entries, lines = [], []
    with pytest.MonkeyPatch.context() as m:
        m.setattr(adaptation, "LOGGED", 4)
        file = adapt(checked_settings(AdaptSettings, **settings), folder / "w.safetensors", tell=lines.append,
                     log=entries.append)
    return file, entries, lines


@pytest.fixture(scope="module")
def adapted(base, tmp_path_factory): return trained(base, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def agreeing(base, tmp_path_factory): return trained(base | AGREEING, tmp_path_factory.mktemp("out"))


def test_it_learns(adapted):
    _, entries, _ = adapted
    assert entries[-1]["loss"] < entries[0]["loss"] < 1.2
    assert max(e.get("balanced_accuracy", 0) for e in entries) > 0.7


def test_frozen_stages_stay_as_they_were_to_the_bit_and_the_others_do_not(adapted):
    before, after = load_backbone(describe("efficientnet_lite0")).state_dict(), load_file(adapted[0])
    same = {k for k, v in before.items() if v.shape == after[k].shape and torch.equal(v, after[k])}
    learned = {k for k in before if k.startswith(LAST)}
    assert {k for k in before if k not in learned} <= same
    assert not {k for k in learned if not k.endswith("num_batches_tracked")} & same


@pytest.mark.parametrize("whole", ["adapted", "agreeing"])
def test_a_killed_training_goes_on_to_the_same_weights_to_the_bit(base, whole, request, tmp_path):
    class Killed(Exception): pass

    def die(entry):
        if entry["step"] >= 8: raise Killed

    file, out = request.getfixturevalue(whole)[0], tmp_path / "w.safetensors"
    settings = checked_settings(AdaptSettings, **base | (AGREEING if whole == "agreeing" else {}))
    with pytest.MonkeyPatch.context() as m:
        m.setattr(adaptation, "LOGGED", 4)
        with pytest.raises(Killed): adapt(settings, out, log=die)
        assert not out.exists() and len(list(tmp_path.iterdir())) == 1
        lines = []
        adapt(settings, out, tell=lines.append)
    assert "resumed after 7 steps" in lines
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.md", "w.safetensors"]
    one, other = load_file(file), load_file(out)
    assert list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)
    assert adapted_on(out).facts["history"] == adapted_on(file).facts["history"]


def test_what_is_altered_looks_more_alike_after_agreement_than_after_labels_alone(base, adapted, agreeing):
    dataset = load_dataset(make_settings(data=base["data"]))
    images = torch.from_numpy(np.stack([resize(decode(dataset.read(f)), 64) for f in dataset.usable["file_name"]]))
    looks = [(255 * altered(images, Strengths(), np.random.default_rng(i))).permute(0, 2, 3, 1).byte().numpy()
             for i in (0, 1)]

    def apart(file) -> float:
        "Squared distance of two alterations of an image, over that of alterations of two images."
        backbone = describe("efficientnet_lite0", file)
        a, b = (last_features(load_backbone(backbone), backbone, x) for x in looks)
        return float(np.square(a - b).sum() / np.square(a - np.roll(b, 1, 0)).sum())

    assert apart(agreeing[0]) < 0.95 * apart(adapted[0])


def test_agreement_leaves_nothing_of_its_own_in_the_file_and_is_told_on_the_card(adapted, agreeing):
    assert load_file(agreeing[0]).keys() == load_file(adapted[0]).keys()
    assert "look alike (90 % of the loss)" in agreeing[0].with_suffix(".md").read_text(encoding="utf-8")
    assert "look alike" not in adapted[0].with_suffix(".md").read_text(encoding="utf-8")


def test_another_seed_gives_other_weights(base, adapted, tmp_path):
    out = adapt(checked_settings(AdaptSettings, **base | {"seed": 1, "steps": 2}), tmp_path / "w.safetensors")
    assert not torch.equal(load_file(adapted[0])["classifier.weight"], load_file(out)["classifier.weight"])


def test_the_card_says_from_what_on_what_and_how_well(base, adapted):
    card, dataset = adapted_on(adapted[0]), load_dataset(make_settings(data=base["data"]))
    facts = card.facts
    assert facts["backbone"] == {"name": "efficientnet_lite0", "sha256": describe("efficientnet_lite0").sha256}
    assert facts["data"]["fingerprint"] == dataset.fingerprint and facts["data"]["classes"] == dataset.counts
    assert facts["data"]["n_patients"] == dataset.n_patients and facts["data"]["licence"] is None
    assert facts["validation"]["kept_apart"] == "patients" and facts["validation"]["step"] in (16, 32)
    assert {bytes(r).hex() for r in card.seen.sha256} == {d[:16] for d in dataset.usable["sha256"]}
    text = adapted[0].with_suffix(".md").read_text(encoding="utf-8")
    assert "Research use only" in text and "not stated" in text and dataset.fingerprint in text
    size = sum(getattr(card.seen, k).nbytes for k in ("sha256", "prints", "thumbs")) / len(card.seen.sha256)
    assert size <= 104


def test_adapted_weights_are_taken_by_every_report_and_give_other_features(base, adapted):
    settings = make_settings("imagenet", data=base["data"], image_size=64)
    dataset = load_dataset(settings)
    plain = extract(dataset, settings)
    other = extract(dataset, settings.model_copy(update={"weights": str(adapted[0])}))
    assert plain.shape == other.shape == (48, 1280) and np.abs(plain - other).max() > 0.05


def test_half_precision_is_kept_where_features_stay_and_refused_in_words_elsewhere(base, adapted, tmp_path):
    short = checked_settings(AdaptSettings, **base | {"half": True, "steps": 2})
    out = adapt(short, tmp_path / "half.safetensors")
    assert load_file(out)["conv_head.weight"].dtype == torch.float16
    assert load_file(out)["bn2.running_var"].dtype == torch.float32
    assert out.stat().st_size < 0.6 * adapted[0].stat().st_size
    lines = []
    with pytest.MonkeyPatch.context() as m:
        m.setattr(adaptation, "HALF_COSINE", 1.1)
        out = adapt(short, tmp_path / "full.safetensors", tell=lines.append)
    assert load_file(out)["conv_head.weight"].dtype == torch.float32 and "half=true is refused" in lines[-1]


def test_agreement_alone_looks_at_no_label_and_needs_none(base, tmp_path):
    files = sorted(Path(base["data"]).glob("*/*.png"))[::4]
    for name, folder in (("flat", "."), ("one", "a"), ("other", "b")):
        (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
        for p in files: (tmp_path / name / folder / p.name).write_bytes(p.read_bytes())
    cards = {name: leuknb.adapt(out=tmp_path / f"{name}.safetensors", **base | {
        "agreement": 1, "steps": 2, "data": str(tmp_path / name)}) for name in ("flat", "one", "other")}
    weights = {name: load_file(tmp_path / f"{name}.safetensors") for name in cards}
    learned = [k for k in weights["flat"] if k.startswith(LAST)]
    assert all(torch.equal(weights[name][k], weights["flat"][k]) for k in learned for name in cards)
    assert [list(c.facts["data"]["classes"]) for c in cards.values()] == [[], ["a"], ["b"]]
    assert all(c.facts["validation"] is None and "without a look at the labels" in str(c) for c in cards.values())
    assert not torch.equal(weights["flat"]["conv_head.weight"],
                           load_backbone(describe("efficientnet_lite0")).state_dict()["conv_head.weight"])


def test_a_damaged_file_is_refused_in_words(adapted, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(adapted[0].read_bytes()[:-1000])
    for read in (adapted_on, lambda f: describe("efficientnet_lite0", f)):
        with pytest.raises(InputError, match="cut.safetensors"): read(cut)
    content = adapted[0].read_bytes()
    length = int.from_bytes(content[:8], "little")
    head = json.loads(content[8:8 + length])
    head["__metadata__"]["leuknb.card"] = "[1]"
    text = json.dumps(head).encode()
    cut.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length:])
    with pytest.raises(InputError, match="damaged card"): adapted_on(cut)


@pytest.mark.parametrize(("changes", "words"), [
    ({"train_from": "blocks.33"}, "did you mean 'blocks.3'"), ({"precision": "bfloat16", "device": "cpu"}, "GPU"),
    ({"image_size": 8}, "image_size"), ({"agreement": 1.5}, "agreement"), ({"validation": 0.6}, "validation"),
    ({"stain_jitter": 1}, "not known")])
def test_wrong_settings_are_refused_in_words(base, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        adapt(checked_settings(AdaptSettings, **base | changes), tmp_path / "w.safetensors")


def test_what_is_there_is_not_replaced_unasked_and_another_kind_of_name_is_refused(base, adapted):
    for out, words in ((adapted[0], "--force"), ("weights.pth", "safetensors")):
        with pytest.raises(InputError, match=words): adapt(checked_settings(AdaptSettings, **base), out)
