"""A model handed on: what it says, when it is silent, and that no model folder, however spoilt or forged, runs code
or is believed.
"""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from itertools import count

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as examples, strategies as st
from conftest import leuknb_here
from PIL import Image
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from sklearn.datasets import load_sample_images

from leuknb.modeling.persistence import pack_estimators, read_model, read_manifest, TRUSTED, unpack_estimators
from leuknb.classification.estimators import make_classifier
from leuknb.core import fingerprint, InputError, sha256
from leuknb.settings import make_settings
from leuknb.data.datasets import load_dataset
from leuknb.evaluation.splits import cv_splits
from leuknb.evaluation.predict import labelled_images, predict_splits
from leuknb.features.extraction import extract
from leuknb.modeling.training import train
from leuknb.modeling.model import BATCH, LIKE, Model, UNLIKE, UNREAD, write_predictions
from leuknb.modeling.out_of_distribution import Detector, fit_detector, patient_weights, upper_limit
from leuknb.modeling.conformal import Conformal, fit_conformal, misfit

SETTINGS = make_settings(audit=False, synthetic={"n_images": 80, "difficulty": 0.2})


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    "A model of 80 synthetic smears."
    return train(SETTINGS, tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def model(model_folder):
    return Model.load(model_folder)


@pytest.fixture(scope="module")
def smears():
    dataset = load_dataset(SETTINGS)
    return [dataset.root / f for f in dataset.usable["file_name"]]


@pytest.fixture
def copied(model_folder, tmp_path):
    "A copy of the model folder that a test may spoil."
    return shutil.copytree(model_folder, tmp_path / "model")


def forge(folder, change=lambda content: None, **files):
    "Rewrite a model folder as an attacker would: new content, and every checksum made to fit."
    content = json.loads((folder / "model.json").read_text())
    for name, data in files.items():
        name = {"arrays": "arrays.safetensors", "skops": "classifier.skops"}.get(name, name)
        (folder / name).write_bytes(data)
        content["files"][name] = {"sha256": sha256(data), "bytes": len(data)}
    change(content)
    content.pop("seal")
    (folder / "model.json").write_text(json.dumps({**content, "seal": fingerprint(content)}))
    return folder


# ---------------------------------------------------------------- training

def test_the_same_data_and_settings_give_the_same_bytes(model_folder, tmp_path):
    again = train(SETTINGS, tmp_path / "again")
    assert sorted(os.listdir(again)) == sorted(os.listdir(model_folder))
    for name in os.listdir(model_folder): assert (again / name).read_bytes() == (model_folder / name).read_bytes(), name


def test_out_of_fold_scores_are_those_of_the_evaluation(model_folder):
    dataset = load_dataset(SETTINGS)
    who = labelled_images(dataset, SETTINGS)
    table = predict_splits(extract(dataset, SETTINGS), who, cv_splits(who.label, who.groups, 5, 1, 0),
                           make_settings(classifiers=["svm"]), "cv").set_index("file_name")
    kept = pd.read_csv(model_folder / "out_of_fold.csv").set_index("file_name")
    assert np.allclose(kept["score"], table.loc[kept.index, "score"],
                       atol=1e-6) and (kept["fold"] == table.loc[kept.index, "split"]).all()


def test_no_patient_is_scored_by_a_model_that_saw_it(model_folder):
    kept = pd.read_csv(model_folder / "out_of_fold.csv")
    assert (kept.groupby("group")["fold"].nunique() == 1).all()


def test_the_card_says_what_it_must(model_folder):
    text = (model_folder / "CARD.md").read_text()
    for part in ("Research use only", "synthetic", "Not a medical device", "80 images",
                 "Prediction sets that hold the true class", "like the training data", "audit", "Limits",
                 "sensitivity"):
        assert part in text


def test_the_card_begins_with_what_the_hub_reads_and_lies_there_as_a_page_too(model_folder):
    from huggingface_hub import ModelCard

    facts = ModelCard((model_folder / "CARD.md").read_text()).data
    metrics = json.loads((model_folder / "model.json").read_text())["out_of_fold"]["metrics"]
    assert (facts.library_name, facts.pipeline_tag, facts.license) == ("leuknb", "image-classification", "unknown")
    told = {r.metric_type: r.metric_value for r in facts.eval_results}
    assert told["balanced_accuracy"] == metrics["balanced_accuracy"]["value"] and set(told) == set(facts.metrics)
    page = (model_folder / "CARD.html").read_text()
    assert "<h1" in page and "<table>" in page and "default-src 'none'" in page and "library_name" not in page
    assert not re.search(r"<(script|a|img|link)\b", page) and "Not a medical device" in page


class StandIn:
    "A hub in a folder: what is committed appears in the layout of its library's cache."

    def __init__(self, cache): self.cache, self.made = cache, {}

    def create_repo(self, repo, **how): self.made[repo] = how

    def create_commit(self, repo, operations, **how):
        root, commit = self.cache / f"models--{repo.replace('/', '--')}", "4f" * 20
        for part in ("refs", "blobs", f"snapshots/{commit}"): (root / part).mkdir(parents=True)
        (root / "refs" / "main").write_text(commit)
        for i, o in enumerate(operations):
            shutil.copyfile(o.path_or_fileobj, root / "blobs" / str(i))
            (root / "snapshots" / commit / o.path_in_repo).symlink_to(root / "blobs" / str(i))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A stand-in for the hub, whose folder is the cache of its library, which is offline."
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    stand_in = StandIn(cache)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: stand_in)
    return stand_in


def test_a_model_goes_to_the_hub_and_answers_from_there_as_the_folder_does(model_folder, model, smears, hub, tmp_path):
    listed = leuknb_here("push", model_folder, "ward7/smears", "--dry-run", cwd=tmp_path)
    assert listed.returncode == 0 and "model.json: " in listed.stdout and not hub.made
    assert "names every training image" in listed.stderr
    sent = leuknb_here("push", model_folder, "ward7/smears", cwd=tmp_path)
    assert sent.returncode == 0 and sent.stdout == "hf:ward7/smears\n" and hub.made["ward7/smears"]["private"]
    snapshot = hub.cache / "models--ward7--smears" / "snapshots" / ("4f" * 20)
    assert (snapshot / "README.md").read_bytes() == (model_folder / "CARD.md").read_bytes()
    told = leuknb_here("predict", "hf:ward7/smears", smears[0], smears[1], "--out", "p.csv", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    pd.testing.assert_frame_equal(Model.load("hf:ward7/smears").predict(smears[:2]), model.predict(smears[:2]))


def test_a_model_of_the_hub_is_checked_like_any_folder_and_what_it_cannot_give_is_told(model_folder, hub, tmp_path,
                                                                                      monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("LEUKNB_HOME", str(home))
    leuknb_here("push", model_folder, "ward7/smears", "--public", cwd=tmp_path, LEUKNB_HOME=str(home))
    assert not hub.made["ward7/smears"]["private"]
    blob = (hub.cache / "models--ward7--smears" / "snapshots" / ("4f" * 20) / "arrays.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="arrays.safetensors of the model was changed"): Model.load("hf:ward7/smears")
    for name, words in (("hf:ward7/none", "the hub cannot be reached"), ("hf:smears", "write owner/name")):
        told = leuknb_here("predict", name, "x.png", cwd=tmp_path)
        assert told.returncode == 2 and words in told.stderr and "Traceback" not in told.stderr
    def fail(*_, **__): raise PermissionError("401 Unauthorized\nlong story")
    monkeypatch.setattr(hub, "create_repo", fail)
    told = leuknb_here("push", model_folder, "ward7/more", cwd=tmp_path)
    assert told.returncode == 2 and "401 Unauthorized): check the name" in told.stderr and "long" not in told.stderr


def test_a_model_shows_what_it_is_on_what_it_was_trained_and_how_good_it_was(model, model_folder):
    said, page = repr(model), model._repr_html_()
    metrics = json.loads((model_folder / "model.json").read_text())["out_of_fold"]["metrics"]
    low, high = metrics["accuracy"]["ci"]
    for part in ("normal, abnormal (positive)", "linear SVM on", "leuknb_lite0", "80 images of", "patients"):
        assert part in said and part in page
    assert f"{100 * metrics['accuracy']['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})" in page
    assert "research use only" in said and "Research use only" in page and "simulator" in said
    assert model.folder == model_folder and list(model.predictions.file_name) and model.metrics["checks"]["done"]


@pytest.mark.parametrize("width", [390, 1280])
def test_what_a_model_shows_fits_a_page(model, browser, width):
    from leuknb.reporting.html import page_html

    tab = browser.new_page(viewport={"width": width, "height": 800})
    tab.set_content(page_html("t", f"<h1>t</h1>{model._repr_html_()}"))
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("td").last.evaluate("e => getComputedStyle(e).textAlign") == "left"
    tab.close()


def test_what_a_model_shows_is_text_also_when_its_classes_are_markup(model):
    odd = model.manifest.model_copy(update={"data": "<img src=x>", "classes": ["<b>", "abnormal"], "dataset": {},
                                            "out_of_fold": {}})
    page = Model(odd, model.models, model.rules, model.settings)._repr_html_()
    assert "<img" not in page and "<b>," not in page and "&lt;img" in page and "not measured" in page


def test_a_folder_that_is_no_model_is_never_replaced(tmp_path, model_folder):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(InputError, match="--force"): train(SETTINGS, tmp_path / "thesis")
    with pytest.raises(InputError, match="not a model folder"): train(SETTINGS, tmp_path / "thesis", force=True)
    (tmp_path / "link").symlink_to(model_folder)
    with pytest.raises(InputError, match="not a model folder"): train(SETTINGS, tmp_path / "link", force=True)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_a_training_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("leuknb.modeling.persistence.write_model",
                        lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"): train(SETTINGS, tmp_path / "model")
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory):
    "A folder of 45 pictures in three classes by colour, without patients."
    folder, g = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for k, name in enumerate(("blue, dark", "=green", "red")):
        (folder / name).mkdir()
        for i in range(15):
            y, x = np.mgrid[:96, :96]
            cell = (np.hypot(y - 48 - g.normal(0, 4), x - 48 - g.normal(0, 4)) < g.uniform(20, 30))[..., None]
            # each picture its own, or they would pass for copies of each other
            grain = 40 * np.kron(g.normal(size=(12, 12, 3)), np.ones((8, 8, 1)))
            rgb = np.where(cell, np.roll([200, 90, 90], 2 - k), 180) + grain + g.normal(0, 10, (96, 96, 3))
            Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize("classifier", ["svm", "ensemble"])
def test_many_classes_without_patients_and_classifiers_that_are_not_linear(three_classes, tmp_path, classifier):
    params = {"ensemble": {"n_estimators": 8}}
    settings = make_settings(data=str(three_classes), audit=False, cv_folds=3, classifiers=[classifier],
                             params={k: v for k, v in params.items() if k == classifier})
    model = Model.load(train(settings, tmp_path / "model"))
    assert (model.linear is None) == (classifier == "ensemble") and model.positive is None
    answers = model.predict(three_classes)
    each = answers[[f"probability_{c}" for c in model.classes]][answers.verdict == LIKE]
    assert len(answers) == 45 and np.allclose(each.sum(axis=1), 1)
    like = answers[answers.verdict == LIKE]
    # a class that looks like a formula is marked
    assert len(like) > 35 and (like.decision.str.lstrip("'") == like.file_name.str.split("/").str[0]).mean() > 0.9
    assert "too good" in (tmp_path / "model" / "CARD.md").read_text(), "images without patients: said in the card"


# ---------------------------------------------------------------- asking

def test_it_knows_its_own_smears_and_is_silent_about_photographs_and_noise(model, smears):
    answers = model.predict(smears)
    assert (answers.verdict == LIKE).mean() > 0.9 and set(answers.decision[answers.verdict
        == LIKE]) <= set(model.classes)
    g = np.random.default_rng(0)
    odd = [p[:300, :300] for p in load_sample_images().images] + [g.integers(0, 256, (227, 227, 3), dtype=np.uint8),
        np.zeros((50, 70, 3), np.uint8)]
    silent = model.predict(odd)
    assert (silent.verdict == UNLIKE).all() and (silent.decision == "").all() and (silent.prediction_set
        == "").all() and silent.probability.isna().all() and (silent.distance > 1).all()


def test_one_bad_file_never_stops_the_rest_and_rows_keep_their_order(model, smears, tmp_path):
    for name, data in {"empty.png": b"", "text.jpg": b"hello", "cut.jpg": smears[0].read_bytes()[:2000]}.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe.png")
    asked = [smears[0], tmp_path / "empty.png", tmp_path / "text.jpg", tmp_path / "cut.jpg", tmp_path / "gone.png",
             tmp_path / "pipe.png", "a\0b.png", np.zeros((4, 4), np.uint8), smears[1]]
    answers = model.predict(asked)
    assert answers.verdict.tolist() == [LIKE, *[UNREAD] * 7, LIKE]
    assert (answers.why[1:8].str.len() > 5).all() and answers.file_name.tolist()[:2] == [str(smears[0]),
        str(tmp_path / "empty.png")]


def test_paths_bytes_and_arrays_give_the_same_answer_alone_or_in_company(model, smears):
    rgb = np.asarray(Image.open(smears[2]).convert("RGB"))
    company = model.predict([*smears[:20]]).iloc[2]
    for asked in (smears[2], smears[2].read_bytes(), rgb):
        alone = model.predict([asked]).iloc[0]
        assert alone["score"] == pytest.approx(company["score"], abs=1e-6) and alone["decision"] == company["decision"]


def test_a_folder_is_gone_through_without_leaving_it(model, smears, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "deep").mkdir(parents=True), outside.mkdir()
    shutil.copy(smears[0], inside / "deep" / "a.jpg"), shutil.copy(smears[1], outside / "secret.jpg")
    (inside / "link.jpg").symlink_to(outside / "secret.jpg"), (inside / "loop").symlink_to(inside), (inside
        / ".hidden.jpg").write_bytes(b"x"), (inside / "notes.txt").write_text("x")
    answers = model.predict(inside).set_index("file_name")
    assert answers.verdict.to_dict() == {"link.jpg": UNREAD, "loop": UNREAD,
                                         "deep/a.jpg": LIKE} and "leaves the folder" in answers.why["link.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"): model.predict(tmp_path / "empty")


def test_a_stream_without_end_is_answered_a_batch_at_a_time(model, smears):
    taken = count()
    def endless():
        while True:
            next(taken)
            yield b"no image"
    stream = model.predict_stream(endless())
    for _ in range(3): assert next(stream)["verdict"] == UNREAD
    assert next(taken) <= BATCH + 8


def test_large_images_wait_in_small_batches(model, monkeypatch):
    sizes = []
    monkeypatch.setattr("leuknb.modeling.model.MOST_PIXELS", 100_000)
    monkeypatch.setattr(Model, "features", lambda self, images: sizes.append(len(images))
                        or np.zeros((len(images), self.manifest.n_features), np.float32))
    model.predict([np.zeros((200, 200, 3), np.uint8)] * 40)
    assert sizes == [8] * 5


def test_predictions_are_written_whole_and_no_cell_is_a_formula(model, smears, tmp_path):
    shutil.copy(smears[0], tmp_path / "=cmd.jpg"), (tmp_path / "@x,\n.jpg").write_bytes(b"")
    counts = write_predictions(model.predict_stream(tmp_path), tmp_path / "p.csv")
    rows = list(csv.DictReader(open(tmp_path / "p.csv", newline="")))
    assert counts == {LIKE: 1, UNREAD: 1} and [r["file_name"] for r in rows] == ["'=cmd.jpg", "'@x,\n.jpg"]
    assert not any(v[:1] in "=+@\t\r" for r in rows for v in r.values() if v) and float(rows[0]["distance"]) > 0
    def broken():
        yield next(model.predict_stream([smears[0]]))
        raise RuntimeError
    with pytest.raises(RuntimeError): write_predictions(broken(), tmp_path / "q.csv")
    assert sorted(p.name for p in tmp_path.glob("*.csv*")) == ["p.csv"]


def test_a_linear_model_is_loaded_and_asked_without_skops_or_pickle(model_folder, smears):
    code = ("import sys, pickle; sys.modules['skops'] = None\n"
            "from leuknb.modeling.model import Model\n"
            "def no(*a, **k): raise SystemExit('unpickled')\n"
            "m = Model.load(sys.argv[1]); pickle.load = pickle.loads = pickle.Unpickler = no; "
            "print(len(m.scores(__import__('numpy').zeros((3, m.manifest.n_features)))))")
    assert subprocess.run([sys.executable, "-c", code, str(model_folder)], capture_output=True, text=True,
                          check=True).stdout.strip() == "3"


# ---------------------------------------------------------------- folders that are not as they were written

@pytest.mark.parametrize("name", ["model.json", "arrays.safetensors", "out_of_fold.csv", "CARD.md"])
def test_any_changed_cut_missing_or_linked_file_is_noticed(copied, name, tmp_path):
    path = copied / name
    data = path.read_bytes()
    for spoilt in (data[: len(data) // 2], data + b" x", b"", data[:100] + bytes([data[100] ^ 1]) + data[101:],
                   data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]):
        path.write_bytes(spoilt)
        with pytest.raises(InputError, match="again|newer"): Model.load(copied)
    path.unlink()
    with pytest.raises(InputError, match=f"{name} is missing"): Model.load(copied)
    (tmp_path / "elsewhere").write_bytes(data)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="link"): Model.load(copied)
    path.unlink(), os.mkfifo(path)
    with pytest.raises(InputError, match="regular"): Model.load(copied)


def test_a_stowaway_is_noticed(copied):
    (copied / "__init__.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match="__init__.py.*no part of the model"): Model.load(copied)


@pytest.mark.parametrize("change, told", [
    (lambda c: c.update(schema=3), "newer leuknb"),
    (lambda c: c.update(schema=0), "schema"),
    (lambda c: c.update(format="pickle"), "not one of a leuknb model"),
    (lambda c: c.update(surprise=1), "surprise"),
    (lambda c: c.update(n_features=10**12), "n_features"),
    (lambda c: c.update(n_features=3), "do not fit"),
    (lambda c: c.update(n_folds=7), "do not fit"),
    (lambda c: c.update(classes=["a", "a"]), "named twice"),
    (lambda c: c.update(classes=["a", "b", "c"], threshold=None, positive=None, calibration=c["calibration"] * 3),
     "do not fit"),
    (lambda c: c.update(threshold=None), "do not fit together"),
    (lambda c: c.update(coverage=1.5), "coverage"),
    (lambda c: c.update(calibration=[{"kind": "sigmoid", "x": ["nan"], "p": [0]}]), "no calibrator"),
    (lambda c: c.update(calibration=[{"kind": "os.system", "x": [1], "p": [0]}]), "calibrator"),
    (lambda c: c["files"].update({"../../evil": c["files"]["CARD.md"]}), "files"),
    (lambda c: c["files"].update({"classifier.skops": c["files"]["CARD.md"]}), "list of files"),
    (lambda c: c["files"].pop("CARD.md"), "list of files"),
    (lambda c: c["settings"].update(backbone="../../etc/passwd"), "backbone"),
    (lambda c: c["settings"].update(unheard_of=1), "unheard_of"),
    (lambda c: c["settings"].update(pooling="mean"), "other features"),
    (lambda c: c["recipe"].update(weights="0" * 64), "SHA-256"),
    (lambda c: c["recipe"].update(version=99), "other features"),
])
def test_forged_contents_with_matching_checksums_are_refused(copied, change, told):
    with pytest.raises(InputError, match=told): Model.load(forge(copied, change))


@pytest.mark.parametrize("text", ['{"format": "leuknb model", "schema": 1, "threshold": NaN}',
                                  '{"format": "leuknb model", "schema": 1, "threshold": 1e999}', "[" * 100_000,
                                  '{"a":' * 5000 + "1" + "}" * 5000,
                                  '{"format": "leuknb model", "schema": ' + "9" * 5000 + "}",
                                  '{"format": "leuknb model", "schema": ' + "9" * 400 + "}", "null", "", "\xff",
                                  '"' + "a" * 2**24 + '"'])
def test_json_that_would_choke_a_reader_is_refused(text):
    with pytest.raises(InputError): read_manifest(text.encode("latin-1"))


@examples(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_the_reader_fail_otherwise_than_by_saying_so(data):
    with pytest.raises(InputError): read_manifest(data)


def changed(data, **arrays):
    return save_arrays({**load_arrays(data), **{k.replace("__", "."): v for k, v in arrays.items()}})


@pytest.mark.parametrize("make, told", [
    (lambda data: changed(data, linear__bias=np.full_like(load_arrays(data)["linear.bias"], np.nan)), "finite"),
    (lambda data: changed(data, linear__weight=np.zeros((6, 1, 3))), "do not fit"),
    (lambda data: changed(data, linear__weight=np.zeros((2, 2))), "do not fit"),
    (lambda data: changed(data, conformal__fold=load_arrays(data)["conformal.fold"] + 100), "do not fit"),
    (lambda data: changed(data, conformal__label=np.zeros_like(load_arrays(data)["conformal.label"])), "do not fit"),
    (lambda data: changed(data, conformal__weight=np.zeros_like(load_arrays(data)["conformal.weight"])), "do not fit"),
    (lambda data: changed(data, novelty__looks__scale=np.zeros(42)), "detector"),
    (lambda data: changed(data, novelty__limits=np.zeros(3)), "detector"),
    (lambda data: save_arrays({"linear.weight": np.zeros((6, 1, 1280))}), "do not fit|no 'conformal|holds no"),
    (lambda data: (2**60).to_bytes(8, "little") + b"{}", "refused"),
    (lambda data: len(h := b'{"a":{"dtype":"F64","shape":[1099511627776,1048576],"data_offsets":[0,8]}}').to_bytes(8,
        "little") + h + bytes(8), "refused"),
])
def test_forged_arrays_are_refused(copied, make, told):
    with pytest.raises(InputError, match=told):
        Model.load(forge(copied, arrays=make((copied / "arrays.safetensors").read_bytes())))


class Bomb:
    "What pickle and skops would turn into a command."
    def __init__(self, path): self.path = path
    def __reduce__(self): return (os.system, (f"touch {self.path}",))


def test_a_pickle_in_place_of_numbers_is_never_opened(copied, tmp_path):
    import pickle

    marker, npz = tmp_path / "ran", io.BytesIO()
    np.savez(npz, **{"linear.weight": np.array([Bomb(marker)], object)})
    for payload in (pickle.dumps(Bomb(marker)), npz.getvalue()):
        with pytest.raises(InputError, match="refused"): Model.load(forge(copied, arrays=payload))
    assert not marker.exists()


def estimator_file(change=lambda forest: None, n_features=5):
    g = np.random.default_rng(0)
    forest = make_classifier("ensemble", n_estimators=2).fit(g.normal(size=(40, n_features)), np.arange(40) % 2)
    change(forest)
    return pack_estimators([forest])


def rezipped(data, edit=lambda name, content: content, how=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", how) as new:
        for name in old.namelist(): new.writestr(name, edit(name, old.read(name)))
    return out.getvalue()


def test_classifier_files_with_foreign_types_compression_or_another_content_are_refused(tmp_path):
    good = estimator_file()
    assert len(unpack_estimators(good, 5)) == 1
    def with_type(module, name):
        def edit(file, content):
            if file != "schema.json": return content
            return json.dumps({**json.loads(content), "__module__": module, "__class__": name}).encode()
        return rezipped(good, edit)
    foreign, method = with_type("subprocess", "Popen"), with_type("os", "system")
    for bad in (foreign, method, rezipped(good, how=zipfile.ZIP_DEFLATED),
                rezipped(good, lambda n, c: b"[" * 100_000 if n == "schema.json" else c), good[:-30], b"",
                b"PK\x03\x04"):
        assert bad != good
        with pytest.raises(InputError, match="classifier.skops is refused"): unpack_estimators(bad, 5)
    with pytest.raises(InputError, match="another number of features"): unpack_estimators(good, 6)


def test_every_type_of_the_four_classifiers_can_be_kept_and_trusted_types_are_few():
    g = np.random.default_rng(0)
    X, y = g.normal(size=(40, 5)), np.arange(40) % 3
    for name, params in (("svm", {"kernel": "rbf"}), ("knn", {}), ("ensemble", {"n_estimators": 3}),
                         ("ensemble", {"method": "boost", "n_estimators": 3}), ("tree", {})):
        fitted = make_classifier(name, **params).fit(X, y)
        back = unpack_estimators(pack_estimators([fitted]), 5)[0]
        assert (back.predict(X) == fitted.predict(X)).all(), name
    assert len(TRUSTED) < 10


@pytest.mark.parametrize("field, value", [("left_child", 10**6), ("right_child", 0), ("feature", 10**6)])
def test_a_forged_tree_that_would_read_beyond_its_memory_is_refused(field, value):
    import numpy.lib.format as npy

    def edit(name, content):
        if not name.endswith(".npy"): return content
        nodes = npy.read_array(io.BytesIO(content), allow_pickle=False)
        if nodes.dtype.names is None or field not in nodes.dtype.names: return content
        nodes = nodes.copy()
        nodes[field][0] = value
        out = io.BytesIO()
        npy.write_array(out, nodes, allow_pickle=False)
        return out.getvalue()

    good = estimator_file()
    bad = rezipped(good, edit)
    assert bad != rezipped(good)
    with pytest.raises(InputError, match="tree in it is damaged|refused"): unpack_estimators(bad, 5)


def test_another_backbone_is_refused_by_its_content(copied):
    with pytest.raises(InputError, match="--weights PATH|weights"):
        Model.load(forge(copied, lambda c: (c["backbone"].update(sha256="0" * 64),
                                            c["recipe"].update(weights="0" * 64))))


def test_what_is_no_folder_is_told_with_the_mend(tmp_path):
    with pytest.raises(InputError, match="leuknb train"): Model.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="model.json is missing"): read_model(tmp_path / "empty")


# ---------------------------------------------------------------- statistics

@examples(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 4), st.integers(1, 4))
def test_p_values_are_those_of_a_plain_loop(seed, n, n_classes, n_folds):
    g = np.random.default_rng(seed)
    value, label, fold, who = np.round(g.normal(size=n), 1), g.integers(0, n_classes, n), g.integers(0, n_folds,
        n), g.integers(0, 8, n)
    together = [f"{a}/{b}" for a, b in zip(label, who)]
    conformal = Conformal(value, label, fold, patient_weights(together, n))
    new = np.round(g.normal(size=(n_folds, 5, n_classes)), 1)
    for j in range(5):
        for c in range(n_classes):
            total, patients = 1.0, 0
            for p in {t for t, k in zip(together, label) if k == c}:
                mine = [i for i in range(n) if together[i] == p]
                total += np.mean([value[i] >= new[fold[i], j, c] - 1e-12 for i in mine])
                patients += 1
            assert conformal.p_values(new)[j, c] == pytest.approx(total / (patients + 1))


def test_prediction_sets_hold_the_truth_as_often_as_stated_for_new_patients():
    covered = []
    for seed in range(60):
        g = np.random.default_rng(seed)
        who = np.repeat(np.arange(84), g.integers(1, 8, 84))
        y = np.repeat(np.arange(84) % 2, np.bincount(who))
        z = (2 * y - 1) + np.repeat(g.normal(size=84), np.bincount(who)) + g.normal(size=len(y))
        scores, old = np.c_[-z, z], who < 64
        conformal = fit_conformal(scores[old], y[old], who[old] % 4, who[old])
        sets = conformal.p_values(np.repeat(misfit(scores[~old])[None], 4, 0)) > 0.1
        inside = sets[np.arange((~old).sum()), y[~old]]
        covered.append(np.average(inside, weights=patient_weights(who[~old], (~old).sum())))
    assert 0.88 < np.mean(covered) < 0.96


@examples(max_examples=80, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_the_limit_is_the_conformal_quantile_when_every_image_is_a_patient(values, share):
    rank = int(np.ceil(share * (len(values) + 1) - 1e-6))
    expected = sorted(values)[min(rank, len(values)) - 1]
    assert upper_limit(values, np.ones(len(values)), share) == expected


def test_the_detector_turns_away_few_new_patients_and_what_lies_elsewhere():
    g = np.random.default_rng(0)
    basis, mix = g.normal(size=(6, 80)), g.normal(size=(42, 42))
    def draw(n, shift=0.0, p=1.0):
        who = np.repeat(np.arange(n), 5)
        latent = np.repeat(g.normal(size=(n, 6)), 5, 0) + g.normal(size=(5 * n, 6))
        return (np.repeat(g.normal(size=(n, 42)), 5, 0) + g.normal(size=(5 * n, 42))
                + shift) @ mix, latent @ basis * p + 0.3 * g.normal(size=(5 * n, 80)), who
    A, X, who = draw(80)
    folds = [(np.flatnonzero(who % 5 != k), np.flatnonzero(who % 5 == k)) for k in range(5)]
    detector = Detector.from_arrays(fit_detector(A, X, folds, who).arrays())
    turned_away = lambda n=200, **how: (detector.distances(*draw(n, **how)[:2]) > 1).any(1).mean()
    assert turned_away() < 0.1 and turned_away(shift=4.0) > 0.9 and turned_away(p=6.0) > 0.9


# ---------------------------------------------------------------- ONNX

@pytest.fixture(scope="module")
def alexnet_weights(tmp_path_factory):
    import torch

    from leuknb.features.backbones import build

    path = tmp_path_factory.mktemp("weights") / "alexnet_random.pth"
    torch.save(build("alexnet").state_dict(), path)
    return str(path)


def agreement(model, images):
    "Largest differences of scores and probabilities between leuknb and onnxruntime."
    from leuknb.modeling.onnx_export import export_onnx, onnx_answers, onnx_arrays
    from leuknb.modeling.training import probabilities

    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as d: data = export_onnx(model, Path(d) / "m.onnx").read_bytes()
    rgbs = [np.asarray(Image.open(p).convert("RGB")) for p in images]
    score, probability = onnx_answers(data, onnx_arrays(model, rgbs))
    ours = model.scores(model.features(rgbs))
    expected = ours[:, 1] if model.positive else ours
    return np.abs(score - expected).max() / max(1, np.abs(expected).max()), np.abs(probability
        - probabilities(model.rules, ours)).max()


def test_onnx_says_the_same_as_leuknb_to_one_in_ten_thousand(model, smears):
    pytest.importorskip("onnxruntime"), pytest.importorskip("onnxscript")
    assert max(agreement(model, smears[:9])) < 1e-4


def test_onnx_of_alexnet_from_a_local_weights_file(three_classes, alexnet_weights, tmp_path):
    pytest.importorskip("onnxruntime"), pytest.importorskip("onnxscript")
    settings = make_settings(data=str(three_classes), audit=False, cv_folds=3, backbone="alexnet",
                             layers=["pool5"], pooling="max", views=["identity", "rot90"], image_size=95,
                             weights=alexnet_weights, classifiers=["svm"])
    folder = train(settings, tmp_path / "model")
    assert alexnet_weights not in (folder / "model.json").read_text(), "no path of this computer is handed on"
    with pytest.raises(InputError, match="weights"): Model.load(folder)
    assert max(agreement(Model.load(folder, weights=alexnet_weights), sorted(three_classes.glob("*/1*.png")))) < 1e-4


@pytest.mark.long
def test_onnx_with_the_white_cells_mask_as_an_input_of_its_own(tmp_path, smears):
    pytest.importorskip("onnxruntime"), pytest.importorskip("onnxscript")
    from leuknb.modeling.onnx_export import onnx_inputs

    settings = make_settings(**{**SETTINGS.model_dump(), "layers": ["blocks.2"], "pooling": "covariance",
                                "region": "cell", "frames": ["whole", "cell"], "views": ["identity", "fliplr"],
                                "cv_folds": 3, "synthetic": {"n_images": 16, "difficulty": 0.2},
                                "params": {"svm": {"C": 0.001}}})
    model = Model.load(train(settings, tmp_path / "model"))
    assert list(onnx_inputs(model)) == ["image_whole", "mask_whole", "image_cell", "mask_cell"]
    assert max(agreement(model, smears[:5])) < 1e-4


def test_onnx_refuses_what_is_not_linear_and_names_the_missing_package(model, monkeypatch, tmp_path):
    from leuknb.modeling import onnx_export

    forest = Model(model.manifest, [object()], model.rules, model.settings)
    with pytest.raises(InputError, match="only linear ones"): onnx_export.export_onnx(forest, tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install leuknb\[onnx\]"):
        onnx_export.export_onnx(model, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
