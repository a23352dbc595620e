"""What the audit finds, what it leaves alone, what it writes: across pages, on planted and on real data."""

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

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
    assert audit.warnings[0]["code"] == "LKB101" and audit.duplicates["conflict"].tolist()[:4] == [True] * 4
    assert audit.metrics["leaks"] == 4 and set(audit.leaks["what"]) == {"copies"}
    assert any(w["code"] == "LKB102" and "both sides of column 'split'" in w["text"] for w in audit.warnings)


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
    assert any("alone tells the classes apart: AUROC 1.00" in w["text"] and "may measure the camera" in w["text"]
               and w["code"] == "LKB201" for w in audit.warnings)
    assert {s["probe"]: s["p"] for s in audit.metrics["shortcuts"]}["file"] < 0.02


def test_files_that_are_all_equal_give_chance_and_no_crash(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    audit = auditing.run_audit(write(tmp_path, [image] * 20, ["normal", "abnormal"] * 10, form="BMP"),
                               make_settings(permutations=20, cv_repeats=1, data="x"))
    assert {(s["auroc"]["value"], s["p"]) for s in audit.metrics["shortcuts"]} <= {(0.5, None)}
    assert audit.metrics["label_conflicts"] == 1
    assert audit.metrics["exact_duplicates"] == 19


def test_a_class_of_one_group_cannot_be_probed_and_does_not_crash(batch, tmp_path):
    data = write(tmp_path, batch.rgb[:24], np.where(batch.y[:24] == 1, "abnormal", "normal"),
                 np.where(batch.y[:24] == 1, "A", "N"))
    audit = auditing.run_audit(data, QUICK)
    assert audit.metrics["shortcuts"] == [] and "Not probed" in audit_page.audit_html(audit, data)
    assert [w["code"] for w in audit.warnings] == ["LKB205"] and audit.exit_code == 3
    assert "tells abnormal, normal apart could not be judged" in audit.warnings[0]["text"]


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
    assert any("border" in w["text"] for w in told["confound195"]) and told["blast195"] == []


def facts_of(patients, planted=None, each=10, seed=0, labels=None):
    """Facts of files that never were, and their set: patients look a little alike; a planted "file" or "colour" tells
    the classes apart without a mistake.
    """
    r, y = np.random.default_rng(seed), np.repeat(np.arange(patients) % 2 if labels is None else labels, each)
    noise = lambda *shape: (np.repeat(r.normal(size=(patients, *shape)), each, 0) + r.normal(size=(len(y), *shape)))
    size = np.exp(10 + 0.1 * noise() + (3 * (y == 1) if planted == "file" else 0))
    t = pd.DataFrame({"width": 480, "height": 360, "bytes": size, "bytes_per_pixel": size / 172800, "aspect_ratio": 1.5,
                      "jpeg_quality": 90.0, "progressive": 0, "exif_entries": 0, "colour_profile": 0, "dpi": 72,
                      "format": "JPEG", "mode": "RGB", "camera": "", "border_grain": noise()})
    for c in "rgb":
        t[f"colour_mean_{c}"] = noise() + (20 * y if planted == "colour" else 0)
        t[f"colour_sd_{c}"], t[f"border_mean_{c}"] = noise(), noise()
    tiny = np.clip(128 + 20 * noise(8, 8, 3), 0, 255).astype(np.uint8)
    facts = descriptors.Facts(t, np.zeros((len(y), 123), np.float32), np.zeros((len(y), 32, 32), np.uint8), tiny)
    names = np.array(["normal", "abnormal", "other"], object)
    usable = pd.DataFrame({"file_name": [f"{i:04}.jpg" for i in range(len(y))], "label": names[y],
                           "group": np.repeat([f"p{i:02}" for i in range(patients)], each)})
    groups = usable["group"].to_numpy(object)
    return facts, SimpleNamespace(labels=names[y], classes=sorted(set(names[y])), positive="abnormal", usable=usable,
                                  groups=groups, grouped=True)


def alarms(*drawn, settings=QUICK): return shortcuts.judge_probes(shortcuts.run_probes(*drawn, settings))[0]


@pytest.mark.parametrize("patients, code", [(8, "LKB205"), (10, "LKB201"), (12, "LKB201"), (14, "LKB201"),
                                            (40, "LKB201")])
def test_a_perfect_shortcut_is_mentioned_with_few_patients(patients, code):
    for seed in range(3):
        told = alarms(*facts_of(patients, "file", seed=seed))
        assert [w["code"] for w in told if "File size alone" in w["text"]] == [code]


def test_a_clean_set_of_few_patients_raises_no_shortcut_alarm():
    told = [alarms(*facts_of(12, seed=seed)) for seed in range(12)]
    assert sum(map(bool, told)) <= 3  # 5 % are expected; 4 or more of 12 have a probability of 0.2 %
    assert [w["code"] for w in alarms(*facts_of(8, seed=1))] == ["LKB205"]


@pytest.mark.parametrize("silencer", [{"permutations": 0}, {"permutations": 50}, {"cv_repeats": 0, "n_splits": 0},
                                      {"cv_folds": 2}, {"classifiers": ["tree"]}])
def test_no_setting_of_something_else_silences_an_alarm(silencer):
    drawn = facts_of(10, "file")
    told = alarms(*drawn, settings=make_settings(**silencer))
    assert told == alarms(*drawn, settings=make_settings()) and told[0]["code"] == "LKB201"


def test_a_class_of_one_patient_is_named_and_the_others_are_probed():
    told = alarms(*facts_of(21, "file", labels=[0, 1] * 10 + [2]))
    assert [w["code"] for w in told] == ["LKB205", "LKB201"] and "other" in told[0]["text"]


def test_a_p_value_is_of_whole_patients():
    probed = shortcuts.run_probes(*facts_of(10, "file", each=40))
    assert probed.smallest_p == pytest.approx(2 / 252)
    assert 2 / 252 <= probed.table.set_index("probe").loc["file", "p"] <= 2 / 200  # of 252 labellings some are missed


def test_ridge_regression_leaves_out_whole_groups():
    r = np.random.default_rng(0)
    X, y, groups = r.normal(size=(50, 6)), r.integers(0, 3, 50), r.integers(0, 9, 50)
    Z, want = (X - X.mean(0)) / X.std(0), []
    for c in range(3):
        score = np.empty(50)
        for g in set(groups):
            A, wanted = Z[groups != g], ((y == c) - (y == c).mean())[groups != g]
            score[groups == g] = Z[groups == g] @ np.linalg.solve(A.T @ A + 6 * np.eye(6), A.T @ wanted)
        want.append(roc_auc_score(y == c, score))
    assert shortcuts.least_squares_aurocs(X, y[None], groups, 3)[0] == pytest.approx(np.mean(want))


def test_an_acknowledged_warning_is_listed_and_ends_with_0(planted):
    codes = ["LKB101", "LKB102", "LKB103"]
    audit = auditing.run_audit(planted, QUICK.model_copy(update={"acknowledge": codes}))
    assert audit.exit_code == 0 and {w["code"] for w in audit.warnings} == set(codes)
    assert all(w["acknowledged"] for w in audit.metrics["warnings"])
    page = audit_page.audit_html(audit, planted)
    assert "LKB101" in page and page.count("(acknowledged)") == len(audit.warnings) and "to look at" not in page
    assert auditing.run_audit(planted, QUICK.model_copy(update={"acknowledge": codes[:2]})).exit_code == 3


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
