"""Features: the same image gives the same bytes however it is computed, and what is wrong is said before anything is
computed.
"""

import importlib.util
import io
import itertools
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leuknb.data import images
from leuknb.features import backbones
from leuknb.features import network
from leuknb.features import extraction
from leuknb.core import InputError, LeuknbError, fingerprint
from leuknb.settings import make_settings, SyntheticSettings
from leuknb.data.datasets import load_dataset
from leuknb.data.synthetic import draw_batch

STAGES = ["blocks.1", "blocks.2", "blocks.4", "blocks.6"]


def picture(i: int, size=(70, 60)) -> np.ndarray:
    "A smooth blob on noise, different for each number."
    g = np.random.default_rng(i)
    yy, xx = np.mgrid[: size[0], : size[1]]
    blob = 120 * np.exp(-(((yy - g.uniform(20, 50)) / 14) ** 2) - ((xx - g.uniform(20, 40)) / 14) ** 2)
    return (g.normal(200, 6, (*size, 3)) - blob[..., None] * g.uniform(0.3, 1, 3)).clip(0, 255).astype(np.uint8)


def png(i: int) -> bytes:
    f = io.BytesIO()
    Image.fromarray(picture(i)).save(f, "PNG")
    return f.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    "Twelve small images in two class folders; one of them twice, one that is broken."
    root = tmp_path_factory.mktemp("smears")
    for i in range(12):
        path = root / ("abnormal" if i % 2 else "normal") / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(png(i if i != 10 else 0))
    (root / "normal" / "05_broken.png").write_bytes(png(99)[:200])
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    "AlexNet with random weights."
    import torch

    path = tmp_path_factory.mktemp("weights") / "alexnet_random.pth"
    torch.save(backbones.build("alexnet").state_dict(), path)
    return path


def run_extract(folder, home, threads="2", wait=True, extra=""):
    "extract() in a process of its own; the features come back as a file."
    code = f"""
import sys
from leuknb.settings import make_settings
from leuknb.data.datasets import load_dataset
from leuknb.features.extraction import extract
{extra}
settings = make_settings(data={str(folder)!r}, image_size=176)  # its graph does not come with leuknb
X = extract(load_dataset(settings), settings)
open({str(home)!r} + "/X.bin", "wb").write(X.tobytes())
print("torch" in sys.modules)
"""
    env = os.environ | {"LEUKNB_HOME": str(home), "OMP_NUM_THREADS": threads}
    run = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)
    if not wait: return run
    out, err = run.communicate(timeout=180)
    assert run.returncode == 0, err
    return (Path(home) / "X.bin").read_bytes(), out.split()[-1] == "True"


SLOW = """
import time, leuknb.features.store as S
from leuknb.features import network
S.BLOCK_ROWS = 2
forward = network.Reader.__call__
def slowly(self, images): time.sleep(1.5); print("pass", flush=True); return forward(self, images)
network.Reader.__call__ = slowly
"""


def test_one_thread_two_threads_a_killed_and_a_stored_run_give_the_same_bytes_and_a_stored_graph_needs_no_torch(folder,
    tmp_path):
    homes = [tmp_path / name for name in ("one", "two", "killed")]
    for h in homes: h.mkdir()
    one, _ = run_extract(folder, homes[0], threads="1")
    for kept, h in itertools.product(("backbones", "graphs"), homes[1:]):
        if (homes[0] / kept).is_dir(): shutil.copytree(homes[0] / kept, h / kept)
    two, torch_imported = run_extract(folder, homes[1], threads="2")
    graphs = list(homes[1].glob("graphs/*.zip"))
    assert one == two and torch_imported is not bool(graphs)
    run = run_extract(folder, homes[2], threads="1", wait=False, extra=SLOW)
    assert run.stdout.readline() == "pass\n" and run.stdout.readline() == "pass\n"
    run.send_signal(signal.SIGKILL)
    run.wait(timeout=30)
    resumed, _ = run_extract(folder, homes[2])
    stored, torch_imported = run_extract(folder, homes[2])
    assert one == resumed == stored
    assert not torch_imported, "a run whose features are all stored needs no torch"
    for graph in graphs:
        graph.write_bytes(graph.read_bytes()[:-4000])
        shutil.rmtree(homes[1] / "features")
        again = run_extract(folder, homes[1], threads="2")
        assert again == (one, True), "a damaged graph is made again, on two threads too with the same numbers"


def test_neighbours_place_and_threads_do_not_change_an_images_features():
    import torch

    images = [picture(i) for i in range(11)]
    cnn, before = extraction.CNNFeatures(layers=["blocks.4", "penultimate"]).fit(), torch.get_num_threads()
    together = cnn.transform(images)
    np.testing.assert_array_equal(cnn.transform(images[::-1])[::-1], together)
    np.testing.assert_array_equal(np.vstack([cnn.transform([i]) for i in images[:2]]), together[:2])
    try:
        torch.set_num_threads(1)
        np.testing.assert_array_equal(cnn.transform(images), together)
        assert torch.get_num_threads() == 1
    finally: torch.set_num_threads(before)


def test_two_threads_may_transform_at_once():
    images, cnn, got = [picture(i) for i in range(8)], extraction.CNNFeatures(layers=["blocks.2"]).fit(), {}
    both = [threading.Thread(target=lambda k=k: got.update({k: cnn.transform(images[k:])})) for k in (0, 1)]
    for t in both: t.start()
    for t in both: t.join()
    np.testing.assert_array_equal(got[0][1:], got[1])


def test_rows_follow_the_table_skipped_images_have_none_and_twins_are_computed_once(folder, tmp_path, monkeypatch):
    settings = make_settings("imagenet", data=str(folder))
    dataset = load_dataset(settings)
    computed = []
    square = extraction._square
    monkeypatch.setattr(extraction, "_square", lambda dataset, file,
                        *rest: computed.append(file) or square(dataset, file, *rest))
    X = extraction.extract(dataset, settings, store=tmp_path)
    files = list(dataset.usable.file_name)
    assert X.shape == (12, 1280) and X.dtype == np.float32 and "normal/05_broken.png" not in files
    assert len(computed) == 11
    np.testing.assert_array_equal(X[files.index("normal/10.png")], X[files.index("normal/00.png")])
    np.testing.assert_array_equal(X, extraction.CNNFeatures().fit_transform([folder / f for f in files]))


def test_the_bits_of_a_feature_do_not_depend_on_the_images_beside_it_in_the_batch():
    settings, pixels = make_settings(), draw_batch(SyntheticSettings(n_images=5), side=200).rgb
    network = extraction.CNNFeatures(settings.backbone, settings.layers, settings.pooling, settings.region,
                                     settings.frames).fit()
    together, turned = network.transform(pixels), network.transform([*pixels[1:], pixels[0]])
    np.testing.assert_array_equal(turned[-1], together[0])
    np.testing.assert_array_equal(turned[:-1], together[1:])
    np.testing.assert_array_equal(network.transform(pixels[2:3])[0], together[2])


def test_a_damaged_store_is_computed_again_to_the_same_bytes(folder, tmp_path):
    settings = make_settings(data=str(folder), layers=["blocks.1"])
    dataset = load_dataset(settings)
    first = extraction.extract(dataset, settings, store=tmp_path)
    for segment in tmp_path.rglob("*.segment"):
        data = bytearray(segment.read_bytes())
        data[-10] ^= 1
        segment.write_bytes(data)
    assert extraction.extract(dataset, settings, store=tmp_path).tobytes() == first.tobytes()


def test_whatever_shapes_a_feature_has_a_place_of_its_own_in_the_store(weights):
    base = make_settings("imagenet")
    changes = [{"layers": ["blocks.4"]}, {"pooling": "max"}, {"frames": ["cell"]}, {"views": ["fliplr"]},
               {"image_size": 128}, {"backbone": "alexnet", "weights": str(weights)}]
    recipes = [extraction.recipe_of(make_settings("imagenet", **c)) for c in ({}, *changes)]
    recipes += [extraction.recipe_of(base, copy=k) for k in (1, 2)]
    recipes += [extraction.recipe_of(make_settings("imagenet", seed=1), copy=1),
                extraction.recipe_of(make_settings("imagenet", augmentations=["flip"]), copy=1)]
    assert len({fingerprint(r) for r in recipes}) == len(recipes)
    same = [{"seed": 5}, {"batch_size": 4}, {"image_size": 224}, {"layers": ["penultimate"]}, {"classifiers": ["svm"]}]
    assert {fingerprint(extraction.recipe_of(make_settings("imagenet", device="cpu", **c)))
            for c in same} == {fingerprint(extraction.recipe_of(make_settings("imagenet", device="cpu")))}


def test_augmented_copies_differ_from_the_image_and_are_drawn_the_same_again(folder, tmp_path):
    settings = make_settings(data=str(folder), layers=["blocks.1"])
    dataset = load_dataset(settings)
    plain, copied = (extraction.extract(dataset, settings, copy=k, store=tmp_path / "a") for k in (0, 1))
    assert (plain != copied).any(1).all()
    np.testing.assert_array_equal(extraction.extract(dataset, settings, copy=1, store=tmp_path / "b"), copied)


def test_an_image_that_changed_since_it_was_listed_never_reaches_the_store(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    settings = make_settings(data=str(tmp_path / "data"), layers=["blocks.1"])
    dataset = load_dataset(settings)
    (tmp_path / "data" / "normal" / "00.png").write_bytes(png(77))
    with pytest.raises(LeuknbError, match="normal/00.png was changed"):
        extraction.extract(dataset, settings, store=tmp_path / "store")


def test_the_paper_preset_runs_through_with_a_file_of_random_weights(folder, weights, tmp_path):
    settings = make_settings("paper", data=str(folder), weights=str(weights))
    X = extraction.extract(load_dataset(settings), settings, store=tmp_path)
    assert X.shape == (12, 4096) and (X < 0).any(), "fc7 is read before its ReLU"


def test_alexnets_layers_have_the_papers_widths_and_an_in_place_relu_does_not_reach_into_them(weights):
    images = [picture(0), picture(1)]
    both = extraction.CNNFeatures("alexnet", layers=["fc6", "fc7"], image_size=227,
                                  weights=str(weights)).fit_transform(images)
    fc6 = extraction.CNNFeatures("alexnet", layers=["fc6"], image_size=227, weights=str(weights)).fit_transform(images)
    np.testing.assert_array_equal(both[:, :4096], fc6)
    assert (fc6 < 0).any()
    pool5 = extraction.CNNFeatures("alexnet", layers=["pool5"], pooling="flatten", image_size=227,
                                   weights=str(weights)).fit_transform(images)
    assert pool5.shape == (2, 9216)
    assert extraction.CNNFeatures("alexnet",
                                  weights=str(weights)).fit_transform(
                                      images).min() >= 0, "what the classifier sees is behind the ReLU"


def test_stages_stand_side_by_side_and_views_are_averaged_in_any_order():
    images = [picture(0), picture(1)]
    views = ["identity", "fliplr", "flipud", "transpose"]
    X = extraction.CNNFeatures(layers=STAGES, views=views).fit_transform(images)
    assert X.shape == (2, 24 + 40 + 112 + 320)
    np.testing.assert_array_equal(extraction.CNNFeatures(layers=STAGES, views=views[::-1]).fit_transform(images), X)
    one_by_one = np.mean([extraction.CNNFeatures(layers=STAGES, views=[v]).fit_transform(images) for v in views], 0)
    np.testing.assert_allclose(X, one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "layers", "width"), [
    ("resnet18", ["layer1.0.relu", "layer1.0.relu_1"], 128), ("squeezenet1_1", [], 512), ("timm:resnet18", [], 512),
    ("mobilenetv3_small_100", ["penultimate", "blocks.1"], 1024 + 24),
    ("timm:vit_tiny_patch16_224", ["blocks.3", "penultimate"], 384), ("swin_t", ["features.1"], 96)])
def test_other_networks_of_torchvision_and_timm_give_features(name, layers, width, tmp_path):
    import torch

    torch.save(backbones.build(name).state_dict(), tmp_path / "w.pth")
    X = extraction.CNNFeatures(name, layers=layers, weights=str(tmp_path / "w.pth")).fit_transform([picture(0)])
    assert X.shape == (1, width) and np.isfinite(X).all()


def test_the_second_call_of_a_module_is_another_layer(tmp_path):
    import torch

    torch.save(backbones.build("resnet18").state_dict(), tmp_path / "w.pth")
    cnn = lambda layer: extraction.CNNFeatures("resnet18", layers=[layer],
                                               weights=str(tmp_path / "w.pth")).fit_transform([picture(0)])
    np.testing.assert_array_equal(cnn("layer1.0.relu_1"), cnn("layer1.0"))
    assert (cnn("layer1.0.relu") != cnn("layer1.0")).any()


# What is wrong is said clearly

def test_missing_weights_without_a_network_are_one_clear_error_within_seconds(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("LEUKNB_OFFLINE", "1")
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    backbones.backbone_names()
    start = time.monotonic()
    with pytest.raises(InputError) as e: extraction.CNNFeatures("alexnet").fit()
    assert time.monotonic() - start < 5
    for part in ("alexnet-owt-7be5be79.pth", str(tmp_path), "--set weights=PATH", "efficientnet_lite0"):
        assert part in str(e.value)
    assert e.value.exit_code == 2


def test_a_server_that_does_not_answer_is_given_up_within_seconds(monkeypatch):
    monkeypatch.setattr(backbones, "NETWORK_SECONDS", 0.3)
    for v in ("LEUKNB_OFFLINE", "HF_HUB_OFFLINE"): monkeypatch.delenv(v, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        assert "timed out" in backbones._unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/w.pth")
        assert time.monotonic() - start < 3


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    class Hostile:
        def __reduce__(self): return (os.mkdir, (str(tmp_path / "ran"),))

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"features.0.weight": Hostile()}))
    with pytest.raises(InputError, match="weights.pth"): extraction.CNNFeatures("alexnet", weights=str(path)).fit()
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused_with_the_first_mismatches(tmp_path, weights):
    import torch

    with pytest.raises(InputError, match="does not fit.*296"):
        extraction.CNNFeatures("efficientnet_lite0", weights=str(weights)).fit()
    torch.save(backbones.build("resnet18").state_dict(), tmp_path / "r.pth")
    with pytest.raises(InputError, match=r"features.0.weight is missing"):
        extraction.CNNFeatures("alexnet", weights=str(tmp_path / "r.pth")).fit()


def test_a_file_whose_name_promises_another_hash_is_refused(tmp_path, weights):
    promised = tmp_path / "alexnet-owt-7be5be79.pth"
    promised.write_bytes(weights.read_bytes())
    with pytest.raises(InputError, match="7be5be79"): extraction.CNNFeatures("alexnet", weights=str(promised)).fit()


def test_safetensors_and_pth_of_the_same_weights_give_the_same_features(tmp_path, weights):
    from safetensors.torch import save_file

    save_file(backbones.read_weights(weights), tmp_path / "w.safetensors")
    a, b = (extraction.CNNFeatures("alexnet", layers=["pool5"], weights=str(w)).fit_transform([picture(0)])
            for w in (weights, tmp_path / "w.safetensors"))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("bad", "said"), [
    ({"backbone": "efficientnet_lite"}, "did you mean"), ({"layers": ["block.6"]}, "blocks.6"),
    ({"layers": ["fc7"]}, "layer 'fc7'"), ({"layers": ["blocks.1"] * 2}, "twice"),
    ({"layers": "blocks.1"}, "list of names"), ({"pooling": "men"}, "mean"), ({"views": []}, "identity"),
    ({"views": ["rot9"]}, "rot90"), ({"image_size": 0}, "32 to 2048"),
    ({"image_size": 64.5}, "whole number"), ({"batch_size": True}, "whole number"), ({"device": "gpu"}, "cuda"),
    ({"weights": "nowhere.pth"}, "nowhere.pth")])
def test_a_bad_parameter_is_named_with_what_is_accepted(bad, said):
    with pytest.raises(InputError, match=said): extraction.CNNFeatures(**bad).fit()


def test_a_device_that_is_absent_is_refused():
    import torch

    if torch.cuda.is_available(): pytest.skip("this machine has the device")
    with pytest.raises(InputError, match="cpu"): extraction.CNNFeatures(device="cuda").fit()


@pytest.mark.parametrize("bad", ["one.png", b"bytes", np.zeros((9, 9, 3), np.uint8), [np.zeros((9, 9, 3))],
                                 [np.zeros((9, 9, 4), np.uint8)], [None], [b""], ["absent.png"], 3])
def test_what_is_no_list_of_images_is_refused(bad):
    with pytest.raises(InputError): extraction.CNNFeatures(layers=["blocks.1"]).fit().transform(bad)


@pytest.fixture(scope="module")
def stem(): return extraction.CNNFeatures(layers=["blocks.1"], image_size=64).fit()


def test_tables_series_arrays_and_pillow_images_give_the_numbers_of_their_paths(stem, folder):
    paths = sorted(map(str, folder.glob("abnormal/*.png")))
    expected = stem.transform(paths)
    column = pd.Series(paths, index=range(100, 100 + len(paths)), name="file_name")
    for given in (column, column.to_frame(), column.astype("string"), column.astype("category"), np.array(paths),
                  np.array(paths)[:, None], [Path(p) for p in paths], [Image.open(p) for p in paths],
                  (p for p in paths)):
        np.testing.assert_array_equal(stem.transform(given), expected)
    assert stem.transform(column.iloc[:0]).shape == (0, 24)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16", "CMYK"])
def test_a_pillow_image_of_any_mode_is_read_as_its_file_is(stem, tmp_path, mode):
    grey = Image.fromarray(picture(3)[..., 0])
    image = Image.fromarray(picture(3)[..., 0].astype(np.uint16) * 200) if mode == "I;16" else (grey if mode == "1"
        else Image.fromarray(picture(3))).convert(mode)
    image.save(path := tmp_path / ("image.tif" if mode == "CMYK" else "image.png"))
    np.testing.assert_array_equal(stem.transform([image, Image.open(path)]), stem.transform([path, path]))


def test_a_pillow_image_is_turned_upright_as_its_file_is(stem, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(4)).save(tmp_path / "a.png", exif=exif)
    turned, flat = stem.transform([Image.open(tmp_path / "a.png"), tmp_path / "a.png"]), stem.transform([picture(4)])
    np.testing.assert_array_equal(turned[0], turned[1])
    assert (turned[0] != flat[0]).any()


@pytest.mark.parametrize(("given", "said"), [
    (pd.DataFrame({"file_name": ["a.png"], "label": ["blast"]}), "a table of 2 columns.*table"),
    (pd.DataFrame(index=[0]), "a table of 0 columns"), (np.array([["a.png", "b.png"]]), "a table of 2 columns"),
    (pd.Series(["absent.png"]), "image 0 of 1.*absent.png"), (pd.Series([picture(0), None]), "image 1 of 2.*NoneType"),
    (pd.Series([float("nan")]), "image 0 of 1.*float"), (Image.new("RGB", (9, 9)), "one Image is not accepted"),
    ([Image.new("RGB", (0, 9))], "without pixels"), (pd.DataFrame({"x": [1.5]}), "image 0 of 1.*float")])
def test_a_table_or_picture_that_cannot_be_taken_is_told_with_its_place(stem, given, said):
    with pytest.raises(InputError, match=said): stem.transform(given)


def test_a_pillow_image_over_the_limit_or_broken_or_closed_is_unreadable(folder, tmp_path):
    small = extraction.CNNFeatures(layers=["blocks.1"], image_size=64, pixel_limit=100).fit()
    with pytest.raises(images.UnreadableImage, match="70 x 60 is more than 100|60 x 70 is more than 100"):
        small.transform([Image.fromarray(picture(0))])
    (tmp_path / "cut.png").write_bytes(png(5)[:-300])
    closed = Image.open(folder / "abnormal" / "01.png")
    closed.close()
    for bad in (Image.open(tmp_path / "cut.png"), closed):
        with pytest.raises(images.UnreadableImage, match="cannot be read"): network.as_rgb(bad, 10**6)


def test_a_table_of_paths_goes_through_a_column_transformer_and_a_pipeline(folder):
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    table = pd.DataFrame({"file_name": sorted(map(str,
                                                  folder.glob("*/*.png")))}).query("~file_name.str.contains('broken')")
    table["age"] = np.arange(len(table))
    label = table["file_name"].str.contains("abnormal")
    cnn = extraction.CNNFeatures(layers=["blocks.1"], image_size=64)
    machine = make_pipeline(make_column_transformer((cnn, ["file_name"]), ("passthrough", ["age"])), StandardScaler(),
                            SVC(kernel="linear"))
    assert machine.fit(table, label).score(table, label) > 0.9


# Reading layers

def test_a_layer_reader_is_shared_by_threads_and_leaves_no_hook_behind():
    import torch

    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity())
    found = {}
    with network.LayerReader(model, {"one": backbones.Tap("1"), "also": backbones.Tap("1"),
                                     "before": backbones.Tap("2", 0, True)}) as reader:
        each = [threading.Thread(target=lambda k=k: found.update({k: [reader(torch.full((1,), float(k)))["one"].item()
            for _ in range(200)]})) for k in range(4)]
        for t in each: t.start()
        for t in each: t.join()
        assert set(reader(torch.ones(1))) == {"one", "also", "before"}
    assert found == {k: [k] * 200 for k in range(4)}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_pass_ends_with_the_last_layer_asked_for_and_a_layer_never_reached_is_named():
    import torch

    class Bomb(torch.nn.Module):
        def forward(self, x): raise AssertionError("computed for nothing")

    model = torch.nn.Sequential(torch.nn.Identity(), Bomb())
    assert network.LayerReader(model, {"first": backbones.Tap("0")})(torch.ones(1))["first"] == 1
    model[1] = torch.nn.Identity()
    with pytest.raises(InputError, match="'again' is never computed"):
        network.LayerReader(model, {"again": backbones.Tap("0", 1)})(torch.ones(1))


@pytest.mark.parametrize("layer", ["blocks.2", "conv_stem", "bn1"])
def test_whole_maps_are_those_that_features_are_pooled_from(layer):
    rgb = images.resize(picture(2), 96)
    cnn = extraction.CNNFeatures(layers=[layer], image_size=96, engine="torch").fit()
    whole = network.feature_maps(rgb, [layer], backbones.describe("efficientnet_lite0"), 96)[layer]
    np.testing.assert_allclose(whole.mean((1, 2)), cnn.transform([rgb])[0], rtol=1e-4, atol=1e-5)


# CNNFeatures as scikit-learn wants it

def applicable_checks():
    "scikit-learn's checks that feed no table of numbers: the others cannot apply to a transformer of images."
    from sklearn.utils import estimator_checks as checks

    names = ("check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types",
             "check_estimator_repr", "check_no_attributes_set_in_init",
             "check_mixin_order", "check_parameters_default_constructible", "check_get_params_invariance",
             "check_set_params",
             "check_do_not_raise_errors_in_init_or_set_param", "check_estimators_unfitted")
    # the names differ between versions of scikit-learn
    return [getattr(checks, n) for n in names if hasattr(checks, n)]


@pytest.mark.parametrize("check", applicable_checks(), ids=lambda c: c.__name__)
def test_it_passes_the_estimator_checks_that_apply(check):
    check("CNNFeatures", extraction.CNNFeatures())


@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_check_estimator_itself_passes():
    from sklearn.utils.estimator_checks import check_estimator

    check_estimator(extraction.CNNFeatures())


def test_it_clones_pickles_and_stands_first_in_a_pipeline_over_paths_bytes_and_arrays(folder):
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    cnn = extraction.CNNFeatures(layers=["blocks.1"], image_size=64).fit()
    assert clone(cnn).get_params() == cnn.get_params()
    images = [picture(i) for i in range(6)]
    np.testing.assert_array_equal(cnn.transform(images), cnn.transform([png(i) for i in range(6)]))
    np.testing.assert_array_equal(cnn.transform(np.stack(images)),
                                  pickle.loads(pickle.dumps(cnn)).transform(pd.Series(images)))  # noqa: S301
    assert len(pickle.dumps(cnn)) < 10_000, "the network is not part of the estimator"
    assert list(cnn.get_feature_names_out()[:2]) == ["blocks.1_0",
                                                     "blocks.1_1"] and len(
                                                         cnn.get_feature_names_out()) == cnn.n_features_out_ == 24
    paths = sorted((folder / "normal").glob("[01][0-9].png")) + sorted((folder / "abnormal").glob("*.png"))
    assert len(cross_val_score(make_pipeline(clone(cnn), StandardScaler(), SVC()), np.array(paths, object),
                               [0] * 6 + [1] * 6, cv=2)) == 2


def test_parquet_holds_the_rows_in_table_order(folder, tmp_path):
    settings = make_settings(data=str(folder), layers=["blocks.1"])
    dataset = load_dataset(settings)
    X = extraction.extract(dataset, settings, store=tmp_path / "store")
    back = pd.read_parquet(extraction.write_features(dataset, X, tmp_path / "features"))
    assert list(back.columns[:3]) == ["file_name", "label",
                                      "f0"] and list(back.file_name) == list(dataset.usable.file_name)
    np.testing.assert_array_equal(back.iloc[:, 2:].to_numpy(), X)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"): extraction.write_features(dataset, X, tmp_path / "file")


def test_backbones_are_listed_without_building_or_fetching_any(monkeypatch):
    monkeypatch.setattr(backbones, "build", None)
    monkeypatch.setattr(backbones, "_unreachable", None)
    table = backbones.backbones()
    assert {"efficientnet_lite0", "alexnet", "resnet18",
            "vit_tiny_patch16_224"} <= set(table.backbone) and len(table) > 1000
    assert table.ready[table.backbone == "efficientnet_lite0"].item()
    assert list(table.backbone[:2]) == ["leuknb_lite0", "efficientnet_lite0"]


@pytest.mark.parametrize(("preset", "low", "high"), [("imagenet", 0.80, 0.86), ("demo", 0.87, 0.92)])
def test_real_blasts_are_told_apart_as_well_as_these_features_can(real_data, preset, low, high):
    from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    settings = make_settings(preset, data=str(real_data("blast195")))
    dataset = load_dataset(settings)
    X = extraction.extract(dataset, settings)
    accuracy = cross_val_score(make_pipeline(StandardScaler(), SVC(kernel="linear")), X, dataset.y,
                               cv=StratifiedShuffleSplit(100, test_size=0.2, random_state=0))
    assert low < accuracy.mean() < high


# Engines

def cosines(a, b): return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


MIDDLE = {"layers": ["blocks.1", "blocks.4"], "pooling": "covariance", "region": "cell", "frames": ["whole", "cell"],
          "views": ["identity", "fliplr", "transpose"]}
WHAT = [{}, {"pooling": "max", "layers": ["blocks.2", "penultimate"]}, {"pooling": "flatten", "layers": ["blocks.6"]},
        {"region": "cell", "layers": ["blocks.2"]}, MIDDLE,
        {"region": "cell", "pooling": "moments", "layers": ["blocks.2", "blocks.6"], "image_size": 176}]


@pytest.mark.parametrize("how", WHAT)
def test_the_compiled_network_gives_torchs_numbers_whatever_is_asked_of_it(how):
    pytest.importorskip("onnxruntime")
    images = [picture(i) for i in range(3)]
    torch, compiled = (extraction.CNNFeatures(engine=e, **how).fit() for e in ("torch", "onnx"))
    a, b = torch.transform(images), compiled.transform(images)
    assert list(torch.get_feature_names_out()) == list(compiled.get_feature_names_out())
    assert abs(a - b).max() < 1e-4 * abs(a).max() and cosines(a, b).min() > 0.99999


@pytest.mark.parametrize("how", [{}, {"region": "cell", "image_size": 176}])
def test_the_compiled_networks_bytes_do_not_hang_on_neighbours_or_runs(how):
    pytest.importorskip("onnxruntime")
    images = [picture(i) for i in range(11)]
    cnn = extraction.CNNFeatures(layers=["blocks.2"], engine="onnx", **how).fit()
    together = cnn.transform(images)
    np.testing.assert_array_equal(cnn.transform(images), together)
    np.testing.assert_array_equal(cnn.transform(images[::-1])[::-1], together)
    np.testing.assert_array_equal(cnn.transform(images[4:5]), together[4:5])


def test_bfloat16_keeps_the_direction_of_dense_networks_and_is_refused_for_depthwise_ones_and_graphs(weights):
    from leuknb.features.onnx import has_bfloat16

    for engine in ("auto", "torch"):
        with pytest.raises(InputError, match="efficientnet_lite0"):
            extraction.CNNFeatures(engine=engine, precision="bfloat16").fit()
    if importlib.util.find_spec("onnxruntime"):
        with pytest.raises(InputError, match="engine=torch"):
            extraction.CNNFeatures("alexnet", weights=str(weights), engine="onnx", precision="bfloat16").fit()
    if not has_bfloat16(): pytest.skip("this CPU has no bfloat16")
    images = [picture(i) for i in range(3)]
    exact, fast = (extraction.CNNFeatures("alexnet", weights=str(weights), engine="torch",
                                          precision=p).fit_transform(images) for p in ("float32", "bfloat16"))
    assert cosines(exact, fast).min() > 0.999 and (exact != fast).any()


def test_engines_never_share_a_place_in_the_store():
    pytest.importorskip("onnxruntime")
    recipes = [extraction.make_recipe(engine=e) for e in ("torch", "onnx")]
    assert fingerprint(recipes[0]) != fingerprint(recipes[1]) and [r["engine"] for r in recipes] == ["torch", "onnx"]


def test_auto_without_onnx_runtime_is_torch_and_asking_for_it_names_the_command(monkeypatch):
    from leuknb.features import onnx

    monkeypatch.setattr(onnx, "has_onnx", lambda: False)
    assert extraction.make_recipe()["engine"] == "torch"
    with pytest.raises(InputError, match="pip install"): extraction.make_recipe(engine="onnx")


@pytest.mark.parametrize("data", ["synthetic", pytest.param("blast195", marks=pytest.mark.long)])
def test_the_engines_lead_to_the_same_predictions_on_synthetic_and_real_smears(real_data, data):
    pytest.importorskip("onnxruntime")
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if data != "synthetic": data = str(real_data(data))
    dataset = load_dataset(make_settings(data=data, synthetic={"n_images": 60}))
    a, b = (extraction.extract(dataset, make_settings(data=data, engine=e)) for e in ("torch", "onnx"))
    said = [cross_val_predict(make_pipeline(StandardScaler(), SVC(kernel="linear")), X, dataset.y, cv=5)
            for X in (a, b)]
    assert cosines(a, b).min() > 0.9999
    np.testing.assert_array_equal(*said)


def test_a_gpu_pass_copies_from_pinned_memory_on_a_queue_of_its_own_thread(monkeypatch, weights):
    import contextlib

    import torch

    seen = []
    net = network.Network(backbones.describe("alexnet", weights), ("pool5",), "mean", ("identity",), 227, "cpu")
    expected = net(np.stack([images.resize(picture(0), 227)]))
    net.device = "cuda"
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: seen.append("pinned") or t)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: seen.append("queue") or "queue")
    monkeypatch.setattr(torch.cuda, "stream", lambda s: contextlib.nullcontext())
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda t, *a,
                        **k: (seen.append(k) or t) if a and a[0] == "cuda" else to(t, *a, **k))
    for _ in range(2): np.testing.assert_array_equal(net(np.stack([images.resize(picture(0), 227)])), expected)
    assert seen.count("queue") == 1 and seen.count("pinned") == 2 and {
        "non_blocking": True} in seen and extraction._workers(net) == 2


def test_the_preset_papers_numbers_on_the_simulator_do_not_move(tmp_path):
    import torch

    from leuknb.evaluation.predict import evaluate

    g = np.random.default_rng(227)
    drawn = {k: torch.from_numpy(g.standard_normal(v.shape, np.float32) * np.float32((2 / max(v[0].numel(), 1)) ** 0.5
        if v.ndim > 1 else 0.01)) for k, v in backbones.build("alexnet").state_dict().items()}
    torch.save(drawn, tmp_path / "drawn.pth")
    settings = make_settings("paper", weights=str(tmp_path / "drawn.pth"), n_splits=0,
                             synthetic={"n_images": 24, "difficulty": 0.5}, cv_folds=2, cv_repeats=1, permutations=0)
    recipe, dataset = extraction.recipe_of(settings), load_dataset(settings)
    assert (recipe["engine"], recipe["precision"], recipe["batch"]) == ("torch", "float32", 8)
    X, copied = (extraction.extract(dataset, settings, copy=k, store=tmp_path / "store") for k in (0, 1))
    told = evaluate(X, dataset, settings, (copied,))
    told = told[told.scheme == "holdout"].sort_values(["model", "file_name"])
    np.testing.assert_allclose(X[[0, 11, 23]][:, [0, 1000, 4095]].ravel(), PAPER["features"], rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose([X.mean(), X.std(), copied.mean(), copied.std()], PAPER["moments"], rtol=2e-4, atol=2e-5)
    assert {m: " ".join(f"{a[0]}{b[0]}" for a, b in zip(t.label, t.predicted)) for m,
            t in told.groupby("model")} == PAPER["label and prediction"]


PAPER = {  # what torch float32 gives; n: normal, a: abnormal
    "features": [-2.41728, 0.5844, -5.9318, -2.70262, -0.58216, -7.92578, -2.85615, -3.45846, -6.48368],
    "moments": [-0.024269, 4.804198, -0.015598, 4.664333],
    "label and prediction": {"ensemble": "aa an aa aa nn nn nn nn", "knn": "aa an an aa na na nn nn",
                             "svm": "an an an aa na nn nn na", "tree": "an an an an na na nn na"},
}
