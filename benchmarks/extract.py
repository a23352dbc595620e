"""Images a second, JPEG files on disk to features, against the plain way one would write first; ratios from one run,
in turn, medians.

    python benchmarks/extract.py [--images 96] [--repeats 5] [--only demo,efficientnet_lite0]

`demo` and `best` are presets; the other cases are the last layer of a network on whole frames. AlexNet and resnet18
run with random weights: the speed is that of trained ones. Processor time stands beside the clock's: it is the
measure where others use the machine. Then the forward pass alone of the preset demo, by settings of ONNX Runtime.
"""

import argparse
import io
import itertools
import os
import statistics
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from leuknb.settings import make_settings

from machine import keep, machine, parse

BATCH = 32  # of the plain way
PRESETS = ("demo", "best")
CASES = (*PRESETS, "efficientnet_lite0", "resnet18", "alexnet")


def asked(case: str) -> dict:
    "What a case asks of a network: parameters of `CNNFeatures`."
    if case not in PRESETS: return {"backbone": case}
    settings = make_settings(case)
    return {k: getattr(settings, k) for k in ("backbone", "layers", "pooling", "region", "frames", "views")}


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

    from leuknb.data.images import resize, view
    from leuknb.features import backbones, network
    from leuknb.data.segmentation import frames_of, SIDE

    model = network.own_copy(backbone, alone=True)
    how, maps = asked(case), {}
    modules = dict(model.named_modules())
    for layer in how.get("layers", ()):
        modules[layer].register_forward_hook(lambda _m, _i, out, layer=layer: maps.__setitem__(layer, out))
    if case not in PRESETS:
        head = modules[backbones._head(model, backbone.source)]
        head.register_forward_pre_hook(lambda _m, i: maps.__setitem__("", i[0]))
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))

    def normal(rgb): return (torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255 - mean) / std

    def described(batch):
        "Every frame and view of a batch through the whole network, pooled inside the cell."
        out = []
        for k in range(len(how["frames"])):
            total = 0
            for name in how["views"]:
                seen = [view(b[..., 4 * k : 4 * k + 4], name) for b in batch]
                model(torch.stack([normal(s[..., :3]) for s in seen]))
                mask = torch.stack([torch.from_numpy(s[..., 3].astype(np.float32) / 255) for s in seen])
                total = total + torch.cat([network.pool(maps[x], how["pooling"], mask) for x in how["layers"]], 1)
            out.append(total / len(how["views"]))
        return torch.cat(out, 1)

    def run():
        rows = []
        with torch.no_grad():
            for i in range(0, len(files), BATCH):
                images = [Image.open(f).convert("RGB") for f in files[i : i + BATCH]]
                if case in PRESETS:
                    found = [frames_of(resize(np.array(im), SIDE), tuple(how["frames"]), backbone.image_size)
                             for im in images]
                    rows.append(described(found))
                else:
                    size = (backbone.image_size,) * 2
                    model(torch.stack([normal(im.resize(size, Image.Resampling.BILINEAR)) for im in images]))
                    rows.append(maps[""].flatten(1).clone())
        return torch.cat(rows).numpy()

    return run


def ours(case: str, weights, files: list[Path], **how):
    "`CNNFeatures` on the same files, fitted."
    from leuknb.features.transformer import CNNFeatures

    cnn = CNNFeatures(weights=weights, **asked(case), **how)
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


def share_of_peak(row: dict, peaks: dict[str, float]) -> float | None:
    "The share of the fastest matrix product in the same numbers; None for 8 bits, whose product is not measured."
    dtype = "float32" if row["way"] == "plain" else row["way"].split()[1]
    return round(row["gflops"] / peaks[dtype], 3) if dtype in peaks else None


def flops(case: str, backbone) -> float:
    """Floating-point operations of an image (two for each multiplication with its addition) up to the deepest layer
    read.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from leuknb.features import network

    how = {"layers": ("penultimate",), "views": ("",), "frames": ("",)} | asked(case)
    layers, views, frames = tuple(how["layers"]), len(how["views"]), len(how["frames"])
    net = network.Network(backbone, layers, "mean", ("identity",), backbone.image_size, "cpu")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.pooled(torch.zeros((1, backbone.image_size, backbone.image_size, 3), dtype=torch.uint8))
    return counter.get_total_flops() * views * frames


def in_turn(ways: dict, repeats: int) -> tuple[dict, dict]:
    "Seconds on the clock and of processor time of each way, all in turn."
    wall, cpu = {k: [] for k in ways}, {k: [] for k in ways}
    for _ in range(repeats):
        for k, way in ways.items():
            start, before = time.perf_counter(), time.process_time()
            way()
            wall[k].append(time.perf_counter() - start)
            cpu[k].append(time.process_time() - before)
    return wall, cpu


SESSIONS = {  # images in a pass, passes side by side, threads in a pass, threads wait spinning, layers joined to blocks
    "as it is": (4, 0, 1, False, True),
    "1 image a pass": (1, 0, 1, False, True),
    "8 images a pass": (8, 0, 1, False, True),
    "all threads in one pass": (4, 1, 0, False, True),
    "all threads in one pass, waiting in a loop": (4, 1, 0, True, True),
    "channels in their order, not in blocks": (4, 0, 1, False, False),
}


def session(network, batch: int, passes: int, threads: int, spinning: bool, blocks: bool, images: np.ndarray):
    "The forward pass of a network's graph by settings of ONNX Runtime."
    import onnxruntime

    from leuknb.features.onnx import cores

    how, levels = onnxruntime.SessionOptions(), onnxruntime.GraphOptimizationLevel
    how.intra_op_num_threads = threads or cores()
    how.graph_optimization_level = levels.ORT_ENABLE_ALL if blocks else levels.ORT_ENABLE_EXTENDED
    how.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    with zipfile.ZipFile(io.BytesIO(network.make())) as z: graph = z.read("graph.onnx")
    run = onnxruntime.InferenceSession(graph, how, providers=["CPUExecutionProvider"])
    inputs = [{run.get_inputs()[0].name: images[i : i + batch]} for i in range(0, len(images), batch)]

    def forward():
        with ThreadPoolExecutor(passes or cores()) as workers:
            return np.concatenate([rows for rows, in workers.map(lambda x: run.run(None, x), inputs)])

    return forward


def sessions(files: list[Path], repeats: int) -> list[dict]:
    "The forward pass of the preset demo, by settings of ONNX Runtime; the images are decoded beforehand."
    from leuknb.data.images import decode
    from leuknb.features.backbones import describe
    from leuknb.features.extraction import network_input, recipe_of
    from leuknb.features.network import compiled_network

    recipe = recipe_of(make_settings(engine="onnx", device="cpu"))
    images = np.stack([network_input(decode(f.read_bytes()), recipe) for f in files[: len(files) // 8 * 8]])
    ways = {}
    for name, (batch, *how) in SESSIONS.items():
        of = (recipe[k] for k in ("layers", "pooling", "views", "image_size", "device"))
        network = compiled_network(describe(recipe["backbone"]), *of, True, recipe["frames"], "float32", batch)
        ways[name] = session(network, batch, *how, images)
    rows = {k: way() for k, way in ways.items()}
    wall, cpu = in_turn(ways, repeats)
    return [{"way": k, "images_a_pass": SESSIONS[k][0],
             "ms_an_image": round(1000 * statistics.median(wall[k]) / len(images), 2),
             "cpu_ms_an_image": round(1000 * statistics.median(cpu[k]) / len(images), 2),
             "largest_difference": float(f"{abs(rows[k] - rows['as it is']).max() / abs(rows['as it is']).max():.1e}")}
            for k in ways]


def measure(case: str, files: list[Path], folder: Path, repeats: int) -> list[dict]:
    "One case: every way once to warm up, then all ways in turn."
    import torch

    from leuknb.features import backbones
    from leuknb.features import extraction
    from leuknb.features.onnx import COMPILED, has_bfloat16, has_int8, has_onnx, HOLDS_BFLOAT16

    name, weights = asked(case)["backbone"], None
    if name in ("resnet18", "alexnet"):
        weights = str(folder / f"{name}_random.pth")
        torch.save(backbones.build(name).state_dict(), weights)
    backbone = backbones.describe(name, weights)
    names = [("torch", "float32")] + ([("onnx", "float32")] if has_onnx() else [])
    names += [("torch", "bfloat16")] if has_bfloat16() and name in HOLDS_BFLOAT16 else []
    names += [("onnx", "int8")] if has_onnx() and has_int8() and name in COMPILED else []
    ways, cold = {"plain": plain_way(case, backbone, files)}, {"plain": None}
    for engine, precision in names:
        ways[f"{engine} {precision}"], cold[f"{engine} {precision}"] = ours(case, weights, files, engine=engine,
            precision=precision)
    chosen = extraction.make_recipe(name, weights=weights)
    rows = {k: way() for k, way in ways.items()}
    times, cpu = in_turn(ways, repeats)
    work = flops(case, backbone)
    cosine = {k: float(np.min((X * rows["plain"]).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(rows["plain"],
        axis=1))) for k, X in rows.items()}
    out = []
    for k in ways:
        rate = len(files) / statistics.median(times[k])
        ratios, work_of = ([a / b for a, b in zip(taken["plain"], taken[k])] for taken in (times, cpu))
        out.append({"case": case, "way": k, "auto": k == f"{chosen['engine']} {chosen['precision']}",
                    "images_a_second": round(rate, 1), "times_plain": round(statistics.median(ratios), 2),
                    "lowest": round(min(ratios), 2), "highest": round(max(ratios), 2),
                    "cpu_ms_an_image": round(1000 * statistics.median(cpu[k]) / len(files), 1),
                    "times_plain_cpu": round(statistics.median(work_of), 2),
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
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEUKNB_HOME"] = folder
        files = drawn(Path(folder), said.images)
        for case in said.only.split(","):
            rows += measure(case, files, Path(folder), said.repeats)
            # others may have been at work: the most that was ever seen counts
            peaks = {k: max(v, peak(k)) for k, v in peaks.items()}
            for r in rows: r["share_of_peak"] = share_of_peak(r, peaks)
            print(pd.DataFrame([r for r in rows if r["case"] == case]).drop(columns="case").to_string(index=False),
                  "\n", flush=True)
        found = sessions(files, said.repeats)
        print(pd.DataFrame(found).to_string(index=False))
    seen = {**machine(), "peak_gflops": {k: round(v) for k, v in peaks.items()}}
    keep("extract", {"machine": seen, "load_at_start": load, "images": said.images, "repeats": said.repeats,
                     "rows": rows, "sessions": found}, said.quick)


if __name__ == "__main__":
    main()
