"""Weights know the images they were adapted on: a report, an audit and a training say so, and are silent on others."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import leuknb
from leuknb.auditing.adapted import seen_before, seen_warning
from leuknb.auditing.audit import run_audit
from leuknb.core import InputError
from leuknb.data.datasets import load_dataset
from leuknb.data.descriptors import image_facts
from leuknb.data.synthetic import synthetic_folder
from leuknb.features.adaptation_card import adapted_on, Card, seen_images, write_adapted
from leuknb.features.backbones import describe, load_backbone
from leuknb.reporting.headline import headline_section
from leuknb.settings import make_settings

FACTS = {"backbone": {"name": "efficientnet_lite0", "sha256": "00"}, "steps": 1, "seconds": 1, "validation": None,
         "settings": {"train_from": "blocks.6", "batch_size": 8, "image_size": 64}, "history": [],
         "versions": {"leuknb": "0"}, "date": "2026-01-01"}


def folder_of(images, where):
    "A labelled folder of (class, name, bytes)."
    for label, name, data in images:
        (where / label).mkdir(parents=True, exist_ok=True)
        (where / label / name).write_bytes(data)
    return where


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    "Two sets of smears, and weights adapted on the first: seen, others, weights."
    patch = pytest.MonkeyPatch()
    patch.setenv("LEUKNB_HOME", str(tmp_path_factory.mktemp("home")))
    sets = []
    for seed in (0, 5):
        source = synthetic_folder(make_settings(synthetic={"n_images": 40, "seed": seed}))
        sets.append([(label, p.name, p.read_bytes()) for label in ("normal", "abnormal")
                     for p in sorted((source / label).iterdir())])
    seen = load_dataset(make_settings(data=str(folder_of(sets[0], tmp_path_factory.mktemp("seen")))))
    data = {"name": "seen", "fingerprint": seen.fingerprint, "classes": seen.counts, "n_images": 40,
            "n_patients": None, "licence": "CC BY 4.0", "source": None, "synthetic": False}
    weights = write_adapted(tmp_path_factory.mktemp("weights") / "w.safetensors",
                            load_backbone(describe("efficientnet_lite0")).state_dict(),
                            Card({**FACTS, "data": data}, seen_images(seen)))
    yield sets[0], sets[1], str(weights)
    patch.undo()


def disguised(data, turns):
    "An image turned, cut a little and saved anew."
    image = Image.open(io.BytesIO(data)).convert("RGB").rotate(90 * turns, expand=True)
    w, h = image.size
    out = io.BytesIO()
    image.crop((w // 50, h // 60, w, h)).resize((w * 9 // 10, h * 9 // 10)).save(out, "JPEG", quality=80)
    return out.getvalue()


def test_the_same_files_are_found_whatever_their_names_and_folders(cells, tmp_path):
    seen, others, weights = cells
    mixed = folder_of([(c, f"x{n}", d) for c, n, d in seen[:12]] + others[:30], tmp_path / "mixed")
    settings = make_settings(data=str(mixed), weights=weights)
    found = seen_before(load_dataset(settings), settings)
    assert (found["exact"], found["near"]) == (12, None)
    said = seen_warning(found, 42)
    assert said["code"] == "LKB106" and "12 of the 42 images" in said["text"] and "12 files the same" in said["text"]


@pytest.mark.parametrize("agreements, labels", [([0.0], True), ([1.0], False), ([1.0, 0.7], True), ([1.0, 1.0], False)])
def test_weights_that_saw_no_label_are_not_said_to_have_seen_any(cells, tmp_path, agreements, labels):
    seen, _, weights = cells
    card = adapted_on(weights)
    parts = [{**card.facts, "settings": {**FACTS["settings"], "agreement": a}} for a in agreements]
    facts = {**parts[0], "parts": parts, "learned": 1.0} if len(parts) > 1 else parts[0]
    written = write_adapted(tmp_path / "w.safetensors", load_backbone(describe("efficientnet_lite0")).state_dict(),
                            Card(facts, card.seen))
    settings = make_settings(data=str(folder_of(seen, tmp_path / "seen")), weights=str(written))
    found = seen_before(load_dataset(settings), settings)
    assert found["labels"] == labels
    assert ("It has seen their labels" in seen_warning(found, 40)["text"]) == labels


def test_turned_cut_and_re_encoded_copies_are_found_and_other_images_are_not(cells, tmp_path):
    seen, others, weights = cells
    copies = [(c, f"{i}.jpg", disguised(d, i % 4)) for i, (c, _, d) in enumerate(seen)]
    settings = make_settings(data=str(folder_of(copies, tmp_path / "copies")), weights=weights)
    dataset = load_dataset(settings)
    found = seen_before(dataset, settings, image_facts(dataset))
    assert found["exact"] == 0 and found["near"] >= 0.9 * len(copies)
    assert "by the look of a copy" in seen_warning(found, len(copies))["text"]
    settings = make_settings(data=str(folder_of(others, tmp_path / "others")), weights=weights)
    dataset = load_dataset(settings)
    found = seen_before(dataset, settings, image_facts(dataset))
    assert (found["exact"], found["near"]) == (0, 0) and seen_warning(found, len(others)) is None


def test_the_audit_warns_first_and_not_with_the_network_as_it_comes(cells, tmp_path):
    seen, _, weights = cells
    settings = make_settings(data=str(folder_of(seen, tmp_path / "seen")), permutations=20, suspects=0)
    dataset = load_dataset(settings)
    audit = run_audit(dataset, settings.model_copy(update={"weights": weights}))
    assert audit.warnings[0]["code"] == "LKB106" and audit.exit_code == 3
    assert audit.metrics["adapted_on"]["exact"] == len(seen)
    plain = run_audit(dataset, settings.model_copy(update={"backbone": "efficientnet_lite0"}))
    assert "LKB106" not in {w["code"] for w in plain.warnings} and "adapted_on" not in plain.metrics
    usual = run_audit(dataset, settings)  # its weights carry a card, and never saw these
    assert "LKB106" not in {w["code"] for w in usual.warnings} and usual.metrics["adapted_on"]["near"] == 0


def test_a_training_says_so_and_its_card_carries_it_with_and_without_an_audit(cells, tmp_path):
    from leuknb.modeling.training import train

    seen, _, weights = cells
    data = str(folder_of(seen, tmp_path / "seen"))
    for audit in (True, False):
        settings, lines = make_settings(data=data, weights=weights, audit=audit, suspects=0, cv_folds=2), []
        folder = train(settings, tmp_path / f"model {audit}", tell=lines.append)
        assert sum(line.startswith("LKB106: 40 of the 40") for line in lines) == 1
        assert "LKB106" in (folder / "CARD.md").read_text(encoding="utf-8")


def test_a_report_without_an_audit_warns_on_its_first_screen(cells, tmp_path):
    seen, _, weights = cells
    run = leuknb.report(folder_of(seen, tmp_path / "seen"), out=tmp_path / "run", weights=weights, audit=False,
                        n_splits=5, cv_repeats=1, permutations=0, cases=0, learning_curve=0, stress=0,
                        baselines=False, classifiers=["svm"])
    assert "LKB106" in {w["code"] for w in run.metrics["headline"]["warnings"]}
    assert run.metrics["features"]["adapted_on"] == {"data": "seen", "n_images": 40, "exact": 40, "near": None,
                                                   "labels": True}
    assert "LKB106" in run.page.read_text(encoding="utf-8")


def test_with_an_audit_the_headline_carries_the_warning_once():
    estimate = {"value": 0.9, "ci": [0.8, 1.0], "n": 10, "units": "images"}
    found = {"data": "seen", "n_images": 40, "exact": 3, "near": None}
    metrics = {"dataset": {"n_images": 10}, "features": {"adapted_on": found},
               "cv": {"models": {"svm": {m: estimate for m in ("balanced_accuracy", "sensitivity", "specificity")}}}}
    assert [w["code"] for w in headline_section(metrics)["warnings"]] == ["LKB106"]
    audited = metrics | {"audit": {"warnings": [seen_warning({**found, "near": 2}, 10)]}}
    assert [w["text"][:5] for w in headline_section(audited)["warnings"]] == ["5 of "]


def test_a_damaged_card_is_refused_in_words_before_anything_is_judged(cells, tmp_path):
    _, others, weights = cells
    content = open(weights, "rb").read()
    length = int.from_bytes(content[:8], "little")
    head = json.loads(content[8:8 + length])
    head["__metadata__"]["leuknb.card"] = "{"
    text = json.dumps(head).encode()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length:])
    settings = make_settings(data=str(folder_of(others, tmp_path / "others")), weights=str(bad))
    with pytest.raises(InputError, match="damaged card"): seen_before(load_dataset(settings), settings)


def test_noise_is_no_copy(cells):
    from leuknb.features.adaptation_card import seen_nearly

    seen = adapted_on(cells[2]).seen
    g = np.random.default_rng(0)
    assert not seen_nearly(seen, g.normal(100, 50, (20, 123)).astype(np.float32),
                           g.integers(0, 255, (20, 32, 32)).astype(np.uint8)).any()
