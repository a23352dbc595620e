"The graph that comes with leuknb: what torch computes now, without torch."

import os
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from leuknb.data.synthetic import draw_batch
from leuknb.features import extraction, onnx
from leuknb.features.weights import notes_of
from leuknb.settings import make_settings, SyntheticSettings

pytest.importorskip("onnxruntime")
HEAVY = ("torch", "torchvision", "timm", "onnx")


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    "Drawn smears: uint8 [n, h, w, 3]."
    return draw_batch(SyntheticSettings(n_images=16), side=220).rgb


def readers(preset: str) -> tuple:
    "A preset's recipe, and its network in ONNX Runtime and in torch."
    recipes = [extraction.recipe_of(make_settings(preset, engine=e, device="cpu")) for e in ("onnx", "torch")]
    return recipes[0], *map(extraction.network_of, recipes)


@pytest.mark.parametrize("preset", ["demo", "best"])
def test_it_is_used_for_the_presets_and_gives_what_torch_gives_now(cells, preset):
    recipe, graph, torch = readers(preset)
    assert onnx.stored_graph(graph.key, graph.backbone.file), "it is of another recipe: run benchmarks/graph.py"
    squares = np.stack([extraction.network_input(rgb, recipe) for rgb in cells])
    noise = np.random.default_rng(0).integers(0, 256, squares.shape, dtype=np.uint8)
    for images in (squares, noise):
        theirs = np.concatenate([torch(images[i : i + recipe["batch"]]) for i in range(0, 16, recipe["batch"])])
        ours = np.concatenate([graph(images[i : i + recipe["batch"]]) for i in range(0, 16, recipe["batch"])])
        assert (abs(ours - theirs).max(0) <= 1e-4 * theirs.std(0)).all(), "it is stale: run benchmarks/graph.py"


def test_it_is_what_torch_writes_now_and_holds_no_weights():
    _, graph, _ = readers("demo")
    stored, now = (np.frombuffer(onnx.unpacked_graph(data)[0], np.uint8)
                   for data in (onnx.stored_graph(graph.key, graph.backbone.file), graph.make()))
    weights = sum(np.prod(shape) for shape in _initialisers(now.tobytes()))
    assert abs(stored.size - now.size) < 10_000 and weights > 2_000_000
    hollow = (files("leuknb.features") / "assets" / onnx.STORED).read_bytes()
    assert len(hollow) < 30_000 and len(onnx.unpacked_graph(hollow)[0]) + 4 * weights == stored.size


def _initialisers(graph: bytes) -> list[list[int]]:
    import onnx as library

    return [list(t.dims) for t in library.load_from_string(graph).graph.initializer]


@pytest.mark.parametrize("change", [{"image_size": 176}, {"layers": ["blocks.2"]}, {"pooling": "mean"},
                                    {"region": "image", "frames": ["whole"]}])
def test_it_is_not_used_for_another_recipe(change):
    recipe = extraction.recipe_of(make_settings(engine="onnx", device="cpu", **change))
    network = extraction.network_of(recipe)
    assert onnx.stored_graph(network.key, network.backbone.file) is None


def test_it_is_not_used_for_other_weights_of_the_same_network(tmp_path):
    from safetensors.numpy import load_file, save_file

    own, other = files("leuknb.features") / "assets" / "leuknb_lite0.safetensors", tmp_path / "other.safetensors"
    tensors = load_file(own)
    save_file(tensors | {"bn1.bias": tensors["bn1.bias"] + 1}, other, notes_of(own))
    recipe = extraction.recipe_of(make_settings(engine="onnx", device="cpu", weights=str(other)))
    network = extraction.network_of(recipe, str(other))
    assert onnx.stored_graph(network.key, network.backbone.file) is None


FIRST = """
import sys, leuknb
settings = leuknb.make_settings(sys.argv[1], data="cells", device="cpu")
X = leuknb.extract(leuknb.load_dataset(settings), settings)
"""
COMMAND = "import sys; from leuknb.cli import main; main(sys.argv[1:])"


@pytest.mark.parametrize("call", [["-c", FIRST, "demo"], ["-c", FIRST, "best"],
                                  ["-c", COMMAND, "extract", "cells", "--out", "out"]])
def test_a_first_extraction_of_a_fresh_home_needs_neither_torch_nor_timm(cells, tmp_path, call):
    for i, rgb in enumerate(cells[:6]):
        path = tmp_path / "cells" / ("normal", "leukemia")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb).save(path)
    env = os.environ | {"LEUKNB_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-X", "importtime", *call], cwd=tmp_path, env=env, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "onnxruntime" in imported and not imported & set(HEAVY)
    assert not (tmp_path / "home" / "graphs").exists()
