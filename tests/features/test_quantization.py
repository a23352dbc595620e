"""Features on 8-bit numbers: asked for by name, the same bytes whatever the machine does beside, near those in 32
bits, and never mixed up with them.
"""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from leuknb.core import fingerprint, InputError
from leuknb.data.datasets import load_dataset
from leuknb.data.images import decode
from leuknb.data.synthetic import draw_planned, plan_smears
from leuknb.features import extraction, network, onnx, quantization
from leuknb.features.distributed import write_extracted
from leuknb.modeling.training import train
from leuknb.settings import make_settings, SyntheticSettings

pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
computed = pytest.mark.skipif(not onnx.has_int8(), reason="this CPU has no instructions for 8-bit numbers")


def drawn(precision: str, preset: str = "demo", **changes):
    return make_settings(preset, precision=precision, device="cpu", synthetic={"n_images": 12}, **changes)


def cosines(a, b):
    a, b = a.astype(float), b.astype(float)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture
def few_smears(monkeypatch):
    "Calibration on a few smears: fast."
    monkeypatch.setattr(quantization, "CALIBRATION", SyntheticSettings(n_images=8))
    network.compiled_network.cache_clear()
    yield
    network.compiled_network.cache_clear()


@pytest.fixture
def able(monkeypatch):
    "A machine that can compute in int8, whatever this one can."
    monkeypatch.setattr(onnx, "has_int8", lambda: True)


# What may be asked for

def test_int8_is_onnx_runtime_on_the_cpu_also_where_a_gpu_is(able, monkeypatch):
    monkeypatch.setattr(extraction, "resolved_device", lambda device: "cuda" if device == "auto" else device)
    recipe = extraction.recipe_of(make_settings(precision="int8"))
    assert (recipe["engine"], recipe["precision"], recipe["device"], recipe["batch"]) == ("onnx", "int8", "cpu", 4)


@pytest.mark.parametrize("how, told", [
    ({"device": "cuda"}, "on cuda, it runs on the CPU: use device=cpu, or float32"),
    ({"engine": "torch"}, "for engine = 'torch': use engine=onnx, or float32"),
    ({"backbone": "resnet50"}, "for resnet50, only for leuknb_lite0, efficientnet_lite0, resnet18, alexnet")])
def test_what_int8_cannot_be_is_refused_with_the_mend(able, how, told):
    with pytest.raises(InputError, match=f"precision = 'int8' is not accepted {told}"):
        onnx.choose(**{"precision": "int8", "backbone": "leuknb_lite0", **how})


@pytest.mark.parametrize("lacks, told", [("has_onnx", r'without ONNX Runtime: pip install "leuknb\[onnx\]"'),
                                         ("has_int8", "no instructions for it .*overflow. Use float32")])
def test_a_machine_that_cannot_is_told_so(able, monkeypatch, lacks, told):
    monkeypatch.setattr(onnx, lacks, lambda: False)
    with pytest.raises(InputError, match=told): extraction.make_recipe("leuknb_lite0", precision="int8")


def test_another_width_is_refused_by_the_setting():
    with pytest.raises(InputError, match=r"precision = 'int9' .*'int8'.*did you mean"):
        make_settings(precision="int9")


# The graph

@pytest.mark.parametrize("frames", [["cell"], ["whole"], ["whole", "cell"]])
def test_calibration_sees_what_the_recipe_makes_of_the_drawn_smears(few_smears, frames):
    recipe = extraction.make_recipe("leuknb_lite0", ["blocks.2"], region="cell", frames=frames, image_size=96,
                                    device="cpu")
    shown = list(quantization.calibration_squares(recipe["frames"], 96))
    plan = list(plan_smears(quantization.CALIBRATION).itertuples())
    wanted = [extraction.network_input(draw_planned(row, quantization.CALIBRATION).rgb, recipe) for row in plan]
    assert len(shown) == len(plan) * len(frames)
    np.testing.assert_array_equal(np.concatenate(shown[: len(frames)], -1), wanted[0])
    np.testing.assert_array_equal(np.concatenate(shown[-len(frames) :], -1), wanted[-1])


def test_without_frames_calibration_sees_plain_pixels(few_smears):
    recipe, row = extraction.make_recipe(image_size=96, device="cpu"), next(
        plan_smears(quantization.CALIBRATION).itertuples())
    square = next(quantization.calibration_squares((), 96))
    np.testing.assert_array_equal(square, extraction.network_input(draw_planned(row, quantization.CALIBRATION).rgb,
                                                                   recipe))


MAKE = """
import hashlib, os, sys
if sys.argv[1] == "1": os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from leuknb.features import extraction, onnx, quantization
from leuknb.settings import make_settings, SyntheticSettings
quantization.CALIBRATION = SyntheticSettings(n_images=8)
recipe = extraction.recipe_of(make_settings(engine="onnx", device="cpu"))
network = extraction.network_of(recipe)
squares = quantization.calibration_squares(recipe["frames"], recipe["image_size"])
print(hashlib.sha256(quantization.quantized_graph(network.exact(), squares)).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors cannot be chosen here")
def test_the_graph_has_the_same_bytes_on_one_processor_and_on_all():
    found = {subprocess.run([sys.executable, "-c", MAKE, n], capture_output=True, text=True, check=True,
                            timeout=300).stdout for n in ("1", "all", "all")}
    assert len(found) == 1 and len(found.pop().strip()) == 64


def test_whatever_shapes_a_graph_gives_it_a_place_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path))
    packed = onnx.packed_graph(b"", {})
    monkeypatch.setattr(quantization, "quantized_graph", lambda data, squares: packed)
    key = {"backbone": "leuknb_lite0", "image_size": 96}
    for frames in (("whole",), ("cell",), ("whole",)): quantization.int8_graph(key, frames, lambda: packed)
    quantization.int8_graph(key | {"image_size": 64}, ("cell",), lambda: packed)
    onnx.kept_graph(key, lambda: packed)
    for name, other in (("DRAWING", 99), ("QUANTIZATION", 99), ("CALIBRATION", SyntheticSettings(n_images=9)),
                        ("package_versions", lambda names: dict.fromkeys(names, "99"))):
        with monkeypatch.context() as m:
            m.setattr(quantization, name, other)
            quantization.int8_graph(key, ("cell",), lambda: packed)
    assert len(list(tmp_path.glob("graphs/*.zip"))) == 8


# The features

@computed
def test_features_in_8_bits_point_where_those_in_32_do_on_drawn_smears(few_smears):
    dataset, (exact, small) = load_dataset(drawn("int8")), map(drawn, ("float32", "int8"))
    a, b = extraction.extract(dataset, exact), extraction.extract(dataset, small)
    assert cosines(a, b).min() > 0.997 and (a != b).mean() > 0.99
    found = extraction.int8_agreement(dataset, small, b)
    assert found == {"images": 12, "cosine_least": pytest.approx(cosines(a, b).min()),
                     "cosine_mean": pytest.approx(cosines(a, b).mean())}
    assert extraction.int8_agreement(dataset, exact, a) is None


@computed
@pytest.mark.parametrize("precision, lines", [("int8", 1), ("float32", 0)])
def test_extracting_and_training_tell_how_near_8_bits_are(few_smears, tmp_path, precision, lines):
    told = {"extract": [], "train": []}
    settings = drawn(precision, cv_folds=2, audit=False)
    write_extracted(settings, tmp_path / "features", tell=told["extract"].append)
    train(settings, tmp_path / "model", tell=told["train"].append)
    for said in told.values(): assert sum("cosine of their features to those in 32 bits" in t for t in said) == lines


@computed
def test_and_on_real_cells(real_data):
    data = str(real_data("blast195"))
    dataset = load_dataset(make_settings(data=data))
    recipes = [extraction.recipe_of(make_settings(data=data, device="cpu", engine="onnx", precision=p))
               for p in ("float32", "int8")]
    squares = [extraction.network_input(decode(dataset.read(f)), recipes[0])
               for f in dataset.usable["file_name"][::5]]
    a, b = (np.stack(list(extraction.rows_of(extraction.network_of(r), iter(squares), r["batch"]))) for r in recipes)
    assert cosines(a, b).min() > 0.99 and cosines(a, b).mean() > 0.998


@computed
@pytest.mark.parametrize("changes", [
    {"preset": "best"}, {"preset": "imagenet"}, {"layers": ["blocks.2"], "pooling": "covariance"},
    {"preset": "imagenet", "layers": ["blocks.1", "penultimate"], "pooling": "max", "image_size": 96},
    {"views": ["identity", "rot90"], "image_size": 96}])
def test_other_recipes_are_computed_too_and_their_bytes_do_not_hang_on_neighbours(few_smears, changes):
    dataset = load_dataset(drawn("int8"))
    images = [decode(dataset.read(f)) for f in dataset.usable["file_name"][:7]]
    recipes = [extraction.recipe_of(drawn(p, **changes)) for p in ("float32", "int8")]

    def rows(recipe, images):
        squares = (extraction.network_input(rgb, recipe) for rgb in images)
        return np.stack(list(extraction.rows_of(extraction.network_of(recipe), squares, recipe["batch"])))

    a, b = (rows(r, images) for r in recipes)
    assert a.shape == b.shape and cosines(a, b).min() > 0.95
    np.testing.assert_array_equal(rows(recipes[1], images[::-1])[::-1], b)
    np.testing.assert_array_equal(rows(recipes[1], images[4:5]), b[4:5])


@computed
@pytest.mark.parametrize("name", ["resnet18", pytest.param("alexnet", marks=pytest.mark.long)])
def test_networks_of_other_makes_are_computed_with_random_weights(few_smears, tmp_path, name):
    import torch

    from leuknb.features.backbones import build
    from leuknb.features.transformer import CNNFeatures

    torch.manual_seed(0)
    torch.save(build(name).state_dict(), tmp_path / "random.pth")
    images = [draw_planned(row).rgb for row in plan_smears(SyntheticSettings(n_images=4)).itertuples()]
    a, b = (CNNFeatures(name, weights=str(tmp_path / "random.pth"), engine="onnx", precision=p,
                        device="cpu").fit_transform(images) for p in ("float32", "int8"))
    assert cosines(a, b).min() > 0.99 and (a != b).any()


@computed
def test_the_store_keeps_the_precisions_and_the_ranges_apart(few_smears, monkeypatch, tmp_path):
    dataset = load_dataset(drawn("int8"))
    recipes = [extraction.recipe_of(drawn(p)) for p in ("float32", "int8")]
    assert fingerprint(recipes[0]) != fingerprint(recipes[1])
    first = [extraction.extract(dataset, drawn(p), store=tmp_path) for p in ("float32", "int8")]
    again = [extraction.extract(dataset, drawn(p), store=tmp_path) for p in ("float32", "int8")]
    assert len(list(tmp_path.iterdir())) == 2 and (first[0] != first[1]).any()
    for a, b in zip(first, again): np.testing.assert_array_equal(a, b)
    monkeypatch.setattr(quantization, "CALIBRATION", SyntheticSettings(n_images=4))
    assert extraction.recipe_of(drawn("float32")) == recipes[0] and extraction.recipe_of(drawn("int8")) != recipes[1]


@computed
def test_a_run_says_how_near_its_features_are_also_when_they_come_from_the_store(few_smears, tmp_path):
    from leuknb.reporting.study import Study
    from leuknb.reporting.text import reading_words

    told = []
    for _ in range(2):
        study = Study(drawn("int8"), tmp_path, dataset=load_dataset(drawn("int8")))
        study.extract()
        told.append(study.metrics["features"]["int8"])
    assert told[0] == told[1] and told[0]["images"] == 12 and 0.99 < told[0]["cosine_least"] < told[0]["cosine_mean"]
    assert f"{told[0]['cosine_least']:.4f} at the least" in reading_words(study.metrics)


# Models and their maps

@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A model on features in 8 bits, its settings, and its set."
    from leuknb.modeling.model import Model
    from leuknb.modeling.training import train

    network.compiled_network.cache_clear()
    with pytest.MonkeyPatch.context() as m:
        m.setattr(quantization, "CALIBRATION", SyntheticSettings(n_images=8))
        settings = make_settings(precision="int8", device="cpu", audit=False, cv_folds=3,
                                 synthetic={"n_images": 24, "images_per_patient": 2, "difficulty": 0.2})
        yield Model.load(train(settings, tmp_path_factory.mktemp("models") / "model")), settings, load_dataset(settings)


@computed
def test_a_model_answers_on_the_features_it_was_trained_on(trained):
    model, settings, dataset = trained
    files = [dataset.root / f for f in dataset.usable["file_name"]]
    images = [decode(f.read_bytes()) for f in files]
    assert model.manifest.recipe["precision"] == "int8"
    np.testing.assert_array_equal(model.features(images), extraction.extract(dataset, settings))
    pd.testing.assert_series_equal(model.predict(files)["score"], model.predict(images)["score"])


@computed
def test_it_is_not_written_as_onnx_which_would_compute_in_32_bits(trained, tmp_path):
    from leuknb.modeling.onnx_export import export_onnx

    with pytest.raises(InputError, match="features in int8 .*Train with --set precision=float32"):
        export_onnx(trained[0], tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


@computed
def test_its_evidence_adds_up_to_the_score_in_32_bits_and_says_so(trained):
    from leuknb.explanation.evidence import EXACT
    from leuknb.modeling.reasons import model_evidence

    model, settings, dataset = trained
    rgb = decode(dataset.read(dataset.usable["file_name"].iloc[0]))
    evidence, how = model_evidence(model, rgb, model.classes[1])
    exact = settings.model_copy(update={"precision": "float32"})
    scores = [model.scores(extraction.extract(dataset, s))[0, 1] for s in (exact, settings)]
    assert evidence.score == pytest.approx(scores[0], rel=1e-3, abs=1e-3)
    assert abs(scores[0] - scores[1]) > 10 * abs(evidence.score - scores[0])
    assert how != EXACT and "32 bits" in how and "int8" in how


@computed
def test_a_report_says_how_far_its_maps_are_from_its_scores(few_smears):
    from leuknb.evaluation.predict import evaluate
    from leuknb.explanation.examples import explain_predictions

    settings = make_settings(precision="int8", device="cpu", classifiers=["svm"], n_splits=0, cv_repeats=0,
                             synthetic={"n_images": 24, "images_per_patient": 2})
    dataset = load_dataset(settings)
    X = extraction.extract(dataset, settings)
    why = explain_predictions(dataset, settings, X, evaluate(X, dataset, settings), n=2).why
    assert "in 32 bits" in why and float(why.split("The largest difference here is ")[1].rstrip(".")) > 0
