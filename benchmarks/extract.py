"""Images a second, JPEG files on disk to features, against the plain way one would write first; ratios from one run,
in turn, medians.

    python benchmarks/extract.py [--images 96] [--repeats 5] [--only efficientnet_lite0,best]

AlexNet and resnet18 run with random weights: the speed is that of trained ones.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from leuknb.settings import make_settings

from machine import keep, machine, parse

BATCH = 32  # of the plain way
CASES = ("efficientnet_lite0", "alexnet", "resnet18", "best")


def drawn(folder: Path, n: int) -> list[Path]:
    "The simulator's smears as JPEG files, n of them."
    from PIL import Image

    from leuknb.data.synthetic import synthetic_folder

    source = synthetic_folder(make_settings(synthetic={"n_images": min(n, 48)}))
    found = sorted(p for c in ("normal", "abnormal") for p in (source / c).iterdir())
    files = []
    for i, path in zip(range(n), itertools.cycle(found)):
        files.append(folder / f"{i:04}.jpg")
        Image.open(path).convert("RGB").save(files[-1], quality=90)
    return files


def plain_way(case: str, backbone, files: list[Path]):
    "The loop a user would write: PIL, a batch of 32, float32, torch's own threads, maps kept until they are pooled."
    import torch
    from PIL import Image

    from leuknb.data.images import view
    from leuknb.features import backbones, network
    from leuknb.data.segmentation import frames_of

    model = backbones.build(backbone.name).eval()
    backbones.fill(model, backbones.read_weights(backbone.file), "the plain way",
                   by_position=backbone.source == "package")
    settings, maps = make_settings("best"), {}
    if case == "best":
        for layer in settings.layers:
            dict(model.named_modules())[layer].register_forward_hook(lambda _m, _i, out,
                layer=layer: maps.__setitem__(layer, out))
    else:
        head = dict(model.named_modules())[backbones._head(model, backbone.source)]
        head.register_forward_pre_hook(lambda _m, i: maps.__setitem__("", i[0]))
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))

    def normal(rgb): return (torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255 - mean) / std

    def described(batch):
        "Every frame and view of a batch through the whole network, pooled inside the cell."
        out = []
        for k in range(2):
            total = 0
            for name in settings.views:
                seen = [view(b[..., 4 * k : 4 * k + 4], name) for b in batch]
                model(torch.stack([normal(s[..., :3]) for s in seen]))
                mask = torch.stack([torch.from_numpy(s[..., 3].astype(np.float32) / 255) for s in seen])
                total = total + torch.cat([network.pool(maps[layer], "covariance", mask) for layer in settings.layers],
                                          1)
            out.append(total / len(settings.views))
        return torch.cat(out, 1)

    def run():
        rows = []
        with torch.no_grad():
            for i in range(0, len(files), BATCH):
                images = [Image.open(f).convert("RGB") for f in files[i : i + BATCH]]
                if case == "best":
                    rows.append(described([frames_of(np.array(im), ("whole", "cell"), backbone.image_size)
                                           for im in images]))
                else:
                    size = (backbone.image_size,) * 2
                    model(torch.stack([normal(im.resize(size, Image.Resampling.BILINEAR)) for im in images]))
                    rows.append(maps[""].flatten(1).clone())
        return torch.cat(rows).numpy()

    return run


def ours(case: str, weights, files: list[Path], **how):
    "`CNNFeatures` on the same files, fitted."
    from leuknb.features.transformer import CNNFeatures

    s = make_settings("best") if case == "best" else None
    more = {k: getattr(s, k) for k in ("layers", "pooling", "region", "frames", "views")} if s else {}
    cnn = CNNFeatures("efficientnet_lite0" if case == "best" else case, weights=weights, **more, **how)
    start = time.perf_counter()
    cnn.fit()
    return (lambda: cnn.transform(files)), time.perf_counter() - start


def peak(dtype: str, n: int = 2048) -> float:
    "GFLOP/s of a matrix product on all threads: the most this machine was seen to do."
    import torch

    a, b = (torch.randn(n, n).to(getattr(torch, dtype)) for _ in range(2))
    best = 0.0
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * n**3 / (time.perf_counter() - start) / 1e9)
    return best


def flops(case: str, backbone) -> float:
    """Floating-point operations of an image (two for each multiplication with its addition) up to the deepest layer
    read.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from leuknb.features import network

    s = make_settings("best")
    layers, views, frames = (tuple(s.layers), len(s.views), 2) if case == "best" else (("penultimate",), 1, 1)
    net = network.Network(backbone, layers, "mean", ("identity",), backbone.image_size, "cpu")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.pooled(torch.zeros((1, backbone.image_size, backbone.image_size, 3), dtype=torch.uint8))
    return counter.get_total_flops() * views * frames


def measure(case: str, files: list[Path], folder: Path, repeats: int) -> list[dict]:
    "One case: every way once to warm up, then all ways in turn."
    import torch

    from leuknb.features import backbones
    from leuknb.features import extraction
    from leuknb.features.onnx import has_bfloat16, has_onnx, HOLDS_BFLOAT16

    name = "efficientnet_lite0" if case == "best" else case
    weights = None
    if name != "efficientnet_lite0":
        weights = str(folder / f"{name}_random.pth")
        torch.save(backbones.build(name).state_dict(), weights)
    backbone = backbones.describe(name, weights)
    files = files[: len(files) // 3] if case == "best" else files
    names = [("torch", "float32")] + ([("onnx", "float32")] if has_onnx() else [])
    names += [("torch", "bfloat16")] if has_bfloat16() and name in HOLDS_BFLOAT16 else []
    ways, cold = {"plain": plain_way(case, backbone, files)}, {"plain": None}
    for engine, precision in names:
        ways[f"{engine} {precision}"], cold[f"{engine} {precision}"] = ours(case, weights, files, engine=engine,
            precision=precision)
    chosen = extraction.make_recipe(name, weights=weights)
    rows = {k: way() for k, way in ways.items()}
    times = {k: [] for k in ways}
    for _ in range(repeats):
        for k, way in ways.items():
            start = time.perf_counter()
            way()
            times[k].append(time.perf_counter() - start)
    work = flops(case, backbone)
    cosine = {k: float(np.min((X * rows["plain"]).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(rows["plain"],
        axis=1))) for k, X in rows.items()}
    out = []
    for k in ways:
        rate = len(files) / statistics.median(times[k])
        ratios = [a / b for a, b in zip(times["plain"], times[k])]
        out.append({"case": case, "way": k, "auto": k == f"{chosen['engine']} {chosen['precision']}",
                    "images_a_second": round(rate, 1), "times_plain": round(statistics.median(ratios), 2),
                    "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2),
                    "gflops": round(rate * work / 1e9, 1),
                    "cosine_to_plain": round(cosine[k], 6), "seconds_to_start": cold[k] and round(cold[k], 2)})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(CASES))
    said = parse(parser, images=32, repeats=2)
    from leuknb.features.onnx import has_bfloat16

    # a CPU without bfloat16 would take minutes for it
    peaks, rows = dict.fromkeys(["float32", "bfloat16"] if has_bfloat16() else ["float32"], 0.0), []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEUKNB_HOME"] = folder
        files = drawn(Path(folder), said.images)
        for case in said.only.split(","):
            rows += measure(case, files, Path(folder), said.repeats)
            # others may have been at work: the most that was ever seen counts
            peaks = {k: max(v, peak(k)) for k, v in peaks.items()}
            for r in rows:
                r["share_of_peak"] = round(r["gflops"] / peaks[r["way"].split()[-1] if "bfloat16" in r["way"]
                                                               else "float32"], 3)
            print(pd.DataFrame([r for r in rows if r["case"] == case]).drop(columns="case").to_string(index=False),
                  "\n", flush=True)
            seen = {**machine(), "peak_gflops": {k: round(v) for k, v in peaks.items()}}
            keep("extract", {"machine": seen, "images": said.images, "repeats": said.repeats, "rows": rows}, said.quick)


if __name__ == "__main__":
    main()
