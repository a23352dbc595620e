"""What the audit finds, what it leaves alone, what it writes: across pages, on planted and on real data."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter
from sklearn.metrics import roc_auc_score

from leuknb import core
from leuknb.data import descriptors
from leuknb.auditing import quality
from leuknb.auditing import shortcuts
from leuknb.auditing import audit as auditing
from leuknb.reporting import audit_page
from leuknb.core import InputError
from leuknb.settings import make_settings, SyntheticSettings
from leuknb.data.datasets import load_dataset
from leuknb.evaluation.splits import cv_splits
from leuknb.evaluation.predict import labelled_images, predict_splits
from leuknb.data.synthetic import draw_batch

QUICK = make_settings(permutations=100, cv_repeats=1)


def write(folder, images, labels, groups=None, form="JPEG", **columns):
    "Write arrays or bytes into class folders with a metadata.csv; return the checked dataset."
    rows = []
    for i, (image, label) in enumerate(zip(images, labels)):
        name = f"{label}/{i:03d}.{form.lower()}"
        (folder / label).mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes): (folder / name).write_bytes(image)
        else: Image.fromarray(image).save(folder / name, form, **({"quality": 90} if form == "JPEG" else {}))
        rows.append({"file_name": name, "label": label} | ({"patient_id": groups[i]} if groups is not None
                                                           else {}) | {k: v[i] for k, v in columns.items()})
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    return load_dataset(make_settings(data=str(folder)))


@pytest.fixture(scope="module")
def batch(): return draw_batch(SyntheticSettings(n_images=72, images_per_patient=3, seed=11), side=128)


@pytest.fixture(scope="module")
def clean(batch, tmp_path_factory):
    return write(tmp_path_factory.mktemp("audit") / "clean", batch.rgb, np.where(batch.y == 1, "abnormal", "normal"),
                 batch.groups)


@pytest.fixture(scope="module")
def clean_audit(clean): return auditing.run_audit(clean, QUICK)


def test_a_clean_set_raises_no_warning_and_ends_with_0(clean_audit):
    assert clean_audit.warnings == [] and clean_audit.exit_code == 0
    assert {k: clean_audit.metrics[k] for k in ("exact_duplicates", "near_duplicates", "label_conflicts",
                                                "leaks")} == dict.fromkeys(
        ("exact_duplicates", "near_duplicates", "label_conflicts", "leaks"), 0)
    assert [s["probe"] for s in clean_audit.metrics["shortcuts"]] == list(shortcuts.PROBES)


def test_the_audit_gives_the_same_answer_twice(clean, clean_audit):
    assert json.dumps(auditing.run_audit(clean, QUICK).metrics) == json.dumps(clean_audit.metrics)


@pytest.fixture(scope="module")
def planted(batch, tmp_path_factory):
    "A rotated, a re-encoded and two relabelled copies."
    labels = list(np.where(batch.y == 1, "abnormal", "normal"))
    other = {"abnormal": "normal", "normal": "abnormal"}
    jpeg = lambda rgb, q: (lambda f: (Image.fromarray(rgb).save(f, "JPEG", quality=q), f.getvalue())[1])(io.BytesIO())
    copies = [(np.rot90(batch.rgb[0]).copy(), labels[0]), (jpeg(batch.rgb[1], 50), labels[1]),
              (jpeg(batch.rgb[2], 90), other[labels[2]]),
              (np.fliplr(batch.rgb[3]).copy(), other[labels[3]])]
    folder = tmp_path_factory.mktemp("audit") / "planted"
    return write(folder, [*batch.rgb, *(c for c, _ in copies)], [*labels, *(c for _, c in copies)],
                 split=["train"] * len(labels) + ["test"] * 4)


def test_rotated_reencoded_and_relabelled_copies_are_caught_conflicts_first(planted):
    audit = auditing.run_audit(planted, QUICK)
    assert audit.exit_code == 3 and audit.metrics["label_conflicts"] == 2
    assert audit.metrics["exact_duplicates"] + audit.metrics["near_duplicates"] == 4
    assert "more than one label" in audit.warnings[0] and audit.duplicates["conflict"].tolist()[:4] == [True] * 4
    assert audit.metrics["leaks"] == 4 and set(audit.leaks["what"]) == {"copies"}
    assert any("both sides of column 'split'" in w for w in audit.warnings)


def test_copies_become_groups_that_no_fold_divides(planted):
    audit = auditing.run_audit(planted, QUICK)
    assert (audit.clusters != "").sum() == 8 and len(set(audit.groups)) == len(planted.usable) - 4
    for train, test in cv_splits(planted.labels, audit.groups, 5, 2):
        assert not set(audit.groups[train]) & set(audit.groups[test])


def test_a_patient_on_both_sides_of_a_given_split_is_a_leak(clean):
    split = replace(clean, table=clean.table.assign(split=["train", "test"] * (len(clean.table) // 2)))
    leaks = auditing.find_leaks(split, np.full(len(split.usable), ""))
    divided = split.usable.groupby("group")["split"].nunique() > 1
    assert sorted(leaks["name"]) == sorted(divided.index[divided]) and set(leaks["what"]) == {"group"}


def test_our_grouped_folds_leak_nothing_and_ungrouped_ones_are_seen(clean):
    X, who = np.random.default_rng(0).normal(size=(len(clean.usable), 12)), labelled_images(clean)
    settings = make_settings(classifiers=["svm"])
    folds = lambda groups: predict_splits(X, who, cv_splits(who.label, groups, 4, 2), settings, "cv")
    none = np.full(len(clean.usable), "")
    assert len(auditing.find_leaks(clean, none, folds(who.groups))) == 0
    assert len(auditing.find_leaks(clean, none, folds(None))) > 0


def test_a_file_fact_that_follows_the_label_is_warned_of_in_words(batch, tmp_path):
    jpeg = lambda rgb, q: (lambda f: (Image.fromarray(rgb).save(f, "JPEG", quality=q), f.getvalue())[1])(io.BytesIO())
    files = [jpeg(rgb, 92 if y else 75) for rgb, y in zip(batch.rgb, batch.y)]
    audit = auditing.run_audit(write(tmp_path, files, np.where(batch.y == 1, "abnormal", "normal"), batch.groups),
                               QUICK)
    assert any("alone tells the classes apart: AUROC 1.00" in w and "may measure the camera" in w
               for w in audit.warnings)
    assert {s["probe"]: s["p"] for s in audit.metrics["shortcuts"]}["file"] < 0.02


def test_files_that_are_all_equal_give_chance_and_no_crash(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    audit = auditing.run_audit(write(tmp_path, [image] * 20, ["normal", "abnormal"] * 10, form="BMP"),
                               make_settings(permutations=20, cv_repeats=1, data="x"))
    assert {s["auroc"] for s in audit.metrics["shortcuts"]} <= {0.5} and audit.metrics["label_conflicts"] == 1
    assert audit.metrics["exact_duplicates"] == 19


def test_a_class_of_one_group_cannot_be_probed_and_does_not_crash(batch, tmp_path):
    data = write(tmp_path, batch.rgb[:24], np.where(batch.y[:24] == 1, "abnormal", "normal"),
                 np.where(batch.y[:24] == 1, "A", "N"))
    audit = auditing.run_audit(data, QUICK)
    assert audit.metrics["shortcuts"] == [] and "Not probed" in audit_page.audit_html(audit, data)


def test_several_classes_are_probed_with_the_macro_auroc(real_data):
    data = load_dataset(make_settings(data=str(real_data("pbc"))))
    keep = data.table[data.table["label"].isin(["basophil", "lymphocyte", "neutrophil"])].reset_index(drop=True)
    audit = auditing.run_audit(replace(data, table=keep, classes=["basophil", "lymphocyte", "neutrophil"]), QUICK)
    assert all(0.4 < s["auroc"]["value"] <= 1 and s["auroc"]["ci"][0] <= s["auroc"]["value"] <= s["auroc"]["ci"][1]
               for s in audit.metrics["shortcuts"])


def test_a_model_is_ranked_against_the_best_probe_with_paired_predictions(clean):
    signal = np.c_[clean.y * 3.0, np.zeros((len(clean.y), 9))] + np.random.default_rng(0).normal(size=(len(clean.y),
        10))
    over = auditing.run_audit(clean, QUICK, X=signal).over
    assert over["auroc"] > 0.9 and over["difference_ci"][0] > 0 and over["difference_ci"][0] <= over[
        "difference"] <= over["difference_ci"][1]
    who, settings = labelled_images(clean), make_settings(classifiers=["svm"])
    predictions = predict_splits(signal, who, cv_splits(who.label, who.groups, 5, 2), settings, "cv")
    paired = auditing.run_audit(clean, QUICK, model_predictions=predictions).over
    want = np.mean([roc_auc_score(t.label == "abnormal", t.score) for _,
                    t in predictions.groupby(predictions["split"] // 5)])
    assert paired["model"] == "svm" and paired["auroc"] == pytest.approx(want)


def test_the_camera_of_the_confounded_set_is_warned_of_and_the_honest_set_is_not(real_data):
    settings = make_settings(permutations=200, cv_repeats=1)
    told = {}
    for name in ("confound195", "blast195"):
        audit = auditing.run_audit(load_dataset(make_settings(data=str(real_data(name)))), settings)
        told[name] = audit.warnings
        colour = {s["probe"]: s for s in audit.metrics["shortcuts"]}["colour"]
        assert colour["p"] < 0.02  # informative on both
    assert any("border" in w for w in told["confound195"]) and told["blast195"] == []


@pytest.mark.parametrize("issue, change", [
    ("dark", lambda i: i.point(lambda v: v // 5)), ("light", lambda i: i.point(lambda v: 246 + v // 30)),
    ("low information", lambda i: Image.new("RGB", i.size, "white")),
    ("blurred", lambda i: i.filter(ImageFilter.GaussianBlur(6))), ("odd size", lambda i: i.resize((700, 700))),
    ("odd shape", lambda i: i.resize((128, 30))),
    ("grey", lambda i: i.convert("L").convert("RGB")),
    ("outlier", lambda i: Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)))])
def test_a_picture_that_should_not_be_there_is_named(clean, batch, tmp_path, issue, change):
    strange = np.asarray(change(Image.fromarray(batch.rgb[5])))
    data = write(tmp_path, [*batch.rgb[:40], strange], [*np.where(batch.y[:40] == 1, "abnormal", "normal"), "normal"])
    found = quality.find_quality(descriptors.image_facts(data), data)
    assert issue in set(found.loc[found["file_name"] == "normal/040.jpeg", "issue"])
    assert found.query("issue in @quality.UNUSABLE")["file_name"].isin(["normal/040.jpeg"]).all()


def test_file_names_cannot_break_out_of_the_page_or_become_formulas(batch, tmp_path):
    (tmp_path / "in").mkdir()
    names = ["=cmd()<b onload=alert(1)>.jpg", "&lt;script&gt;.jpg", *(f"{i}.jpg" for i in range(10))]
    for i, name in enumerate(names):
        Image.fromarray(batch.rgb[0 if i < 2 else i]).save(tmp_path / "in" / name, quality=90)
    table = pd.DataFrame({"file_name": names, "label": ["<i>normal</i>", "abnormal"] * 6})
    table.to_csv(tmp_path / "in" / "metadata.csv", index=False)
    data = load_dataset(make_settings(data=str(tmp_path / "in"), positive="abnormal"))
    audit_page.write_audit(auditing.run_audit(data, QUICK), data, tmp_path / "out")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert ("<b onload" not in page and "<i>normal" not in page and "&lt;b onload" in page and "http:" not in page
            and "https:" not in page)
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["schema"] == 2
    with open(tmp_path / "out" / "duplicates.csv", newline="") as f: cells = [c for row in csv.reader(f) for c in row]
    assert any(c.endswith("=cmd()<b onload=alert(1)>.jpg") for c in cells) and not any(c.startswith("=") for c in cells)


def test_features_that_do_not_fit_the_images_are_told(clean):
    with pytest.raises(InputError, match="do not fit"): auditing.run_audit(clean, QUICK, X=np.zeros((3, 5)))


def test_a_damaged_cache_is_looked_at_again(clean):
    facts = descriptors.image_facts(clean)
    for path in (core.home() / "facts").glob("*.npz"): path.write_bytes(b"damaged")
    pd.testing.assert_frame_equal(descriptors.image_facts(clean).table, facts.table)
