"""Averaged weights are the mean they say they are, and only of trainings that belong together."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from leuknb.core import InputError
from leuknb.features.adaptation import adapt
from leuknb.features.adaptation_card import adapted_on
from leuknb.features.averaging import average_weights
from leuknb.features.backbones import describe, load_backbone
from leuknb.features.extraction import extract
from leuknb.features.fine_tuning import AdaptSettings
from leuknb.data.datasets import load_dataset
from leuknb.settings import checked_settings, make_settings

SHORT = {"data": "synthetic", "synthetic": {"n_images": 24}, "image_size": 64, "train_from": "blocks.6", "steps": 2,
         "batch_size": 6, "validation": 0, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "Two trainings from one start, and a third on other images."
    with pytest.MonkeyPatch.context() as m:
        m.setenv("LEUKNB_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("out")

        def file(name, **more):
            return adapt(checked_settings(AdaptSettings, **{**SHORT, **more}), folder / f"{name}.safetensors")

        yield file("a"), file("b", seed=1), file("c", synthetic={"n_images": 25})


def state(file=None): return load_backbone(describe("efficientnet_lite0", file)).state_dict()


@pytest.mark.parametrize("learned", [1.0, 0.75])
def test_every_weight_is_the_mean_and_the_head_is_the_trainings_own(trained, tmp_path, learned):
    out = average_weights(trained[:2], tmp_path / "mean.safetensors", learned)
    a, b, own, mean = state(trained[0]), state(trained[1]), state(), state(out)
    for k, v in mean.items():
        if not v.is_floating_point(): continue
        head = k.startswith("classifier")
        began = 0 if head or learned == 1 else (1 - learned) * own[k]
        expected = (1 if head else learned) * (a[k] + b[k]) / 2 + began
        assert torch.allclose(v, expected, rtol=2e-3, atol=2e-5), k
    assert torch.equal(mean["conv_stem.weight"], own["conv_stem.weight"].half().float())  # never taught


def test_a_training_that_looked_at_no_label_gives_no_head(trained, tmp_path):
    alone = adapt(checked_settings(AdaptSettings, **SHORT, agreement=1), tmp_path / "alone.safetensors")
    both = average_weights([trained[0], alone], tmp_path / "mean.safetensors")
    a, b, mean = (state(f) for f in (trained[0], alone, both))
    assert torch.allclose(mean["classifier.weight"], a["classifier.weight"], rtol=2e-3, atol=2e-5)
    assert not torch.allclose(a["classifier.weight"], b["classifier.weight"], rtol=2e-3, atol=2e-5)
    assert torch.allclose(mean["conv_head.weight"], (a["conv_head.weight"] + b["conv_head.weight"]) / 2, 2e-3, 2e-5)


def test_one_training_and_all_of_what_it_learned_is_that_training(trained, tmp_path):
    one, same = load_file(trained[0]), load_file(average_weights(trained[:1], tmp_path / "same.safetensors"))
    assert all(torch.allclose(same[k].float(), v.float(), rtol=1e-3, atol=1e-6) for k, v in one.items())


def test_the_card_tells_of_every_training_and_knows_the_images(trained, tmp_path):
    out = average_weights(trained[:2], tmp_path / "mean.safetensors", 0.75)
    card, parts = adapted_on(out), [adapted_on(f) for f in trained[:2]]
    assert [p["settings"]["seed"] for p in card.facts["parts"]] == [0, 1] and card.facts["steps"] == 4
    assert np.array_equal(card.seen.sha256, parts[0].seen.sha256)
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "mean of the weights of 2 trainings, 75 % of it" in text and "Research use only" in text


def test_features_are_read_from_it_like_from_any_weights(trained, tmp_path):
    out = average_weights(trained[:2], tmp_path / "mean.safetensors", 0.5)
    settings = make_settings("imagenet", synthetic={"n_images": 6}, image_size=64)
    dataset = load_dataset(settings)
    plain, other = (extract(dataset, settings.model_copy(update={"weights": w}), store=tmp_path)
                    for w in (None, str(out)))
    assert plain.shape == other.shape and np.abs(plain - other).max() > 0.01


def test_what_cannot_be_averaged_is_refused_in_words(trained, tmp_path):
    there = tmp_path / "there.safetensors"
    average_weights(trained[:1], there)
    with pytest.raises(InputError, match="exists"): average_weights(trained[:1], there)
    assert average_weights(trained[:2], there, force=True) == there
    new = tmp_path / "new.safetensors"
    with pytest.raises(InputError, match="there.safetensors is a mean itself"): average_weights([there], new)
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="learned = .* share above 0 up to 1"):
            average_weights(trained[:1], new, share)
    with pytest.raises(InputError, match="no weights files"): average_weights([], new)
    with pytest.raises(InputError, match="another data"): average_weights([trained[0], trained[2]], new)
    with pytest.raises(InputError, match="no card"): average_weights([plain_weights(tmp_path)], new)
    assert not new.exists()


def plain_weights(folder):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, folder / "plain.safetensors")
    return folder / "plain.safetensors"


def test_a_start_that_is_not_the_networks_own_allows_no_share_of_it(trained, tmp_path):
    other = adapt(checked_settings(AdaptSettings, **SHORT, weights=str(trained[0])), tmp_path / "later.safetensors")
    with pytest.raises(InputError, match="only learned=1"):
        average_weights([other], tmp_path / "mean.safetensors", 0.5)
    assert average_weights([other], tmp_path / "mean.safetensors").exists()
