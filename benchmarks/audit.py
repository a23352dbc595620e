"""How fast is the audit, how much memory does it take, and does it find what CleanVision finds?

    python benchmarks/audit.py --images 20000
    python benchmarks/audit.py --images 3000 --folder PATH_OF_REAL_IMAGES

Images are cuttings of a few hundred synthetic smears (or of the folder's images), turned by any angle, shifted and
zoomed: two cuttings of one picture may be copies of each other by chance, cuttings of two pictures never are. Times
are of one process with two decoding threads. CleanVision, when it is installed, looks at the same files in the same
process.
"""
from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from leuknb.data.descriptors import image_facts
from leuknb.auditing.quality import find_quality
from leuknb.core import rng
from leuknb.settings import make_settings, SyntheticSettings
from leuknb.data.datasets import load_dataset
from leuknb.auditing.duplicates import find_duplicates
from leuknb.data.synthetic import draw_batch

from machine import parse

ISSUE = {"is_dark_issue": "dark", "is_light_issue": "light", "is_low_information_issue": "low information",
         "is_blurry_issue": "blurred",
         "is_odd_aspect_ratio_issue": "odd shape", "is_odd_size_issue": "odd size", "is_grayscale_issue": "grey"}


def sources(folder: str | None) -> list[Image.Image]:
    if folder is None:
        return [Image.fromarray(rgb) for rgb in draw_batch(SyntheticSettings(n_images=240), side=360).rgb]
    return [Image.open(p).convert("RGB") for p in sorted(Path(folder).rglob("*.jpg"))[:400]]


def write_cuttings(out: Path, n: int, pictures: list[Image.Image], damaged: int = 70):
    "n cuttings in two class folders, the first `damaged` of them spoilt in seven ways."
    spoil = [lambda i: i.point(lambda v: v // 5), lambda i: i.point(lambda v: 246 + v // 30),
             lambda i: Image.new("RGB", i.size, "white"), lambda i: i.filter(ImageFilter.GaussianBlur(14)),
             lambda i: i.resize((360, 90)), lambda i: i.resize((40, 40)), lambda i: i.convert("L")]
    generator = rng(0, "cuttings")
    for i in range(n):
        image = pictures[i % len(pictures)]
        side = int(min(image.size) * generator.uniform(0.45, 0.75))
        x, y = (int(generator.integers(s - side + 1)) for s in image.size)
        image = image.rotate(generator.uniform(0, 360),
                             Image.Resampling.BILINEAR).crop((x, y, x + side, y + side)).resize((360, 360),
                                 Image.Resampling.BILINEAR)
        if i < damaged: image = spoil[i % len(spoil)](image)
        (out / ("normal", "abnormal")[i % 2]).mkdir(parents=True, exist_ok=True)
        image.save(out / ("normal", "abnormal")[i % 2] / f"{i:06d}.jpg", quality=90)


def peak() -> float: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, n_sources: int, damaged: int = 70):
    data = load_dataset(make_settings(data=str(folder), pixel_limit=10**8))
    n, names, before = len(data.usable), data.usable["file_name"].tolist(), peak()
    start, cpu = time.perf_counter(), time.process_time()
    facts = image_facts(data)
    middle, cpu_middle = time.perf_counter(), time.process_time()
    found = find_duplicates(lambda i: data.read(names[i]), data.usable["sha256"].tolist(), facts.prints, facts.thumbs,
                            list(zip(facts.table["width"], facts.table["height"])))
    end, cpu_end = time.perf_counter(), time.process_time()
    number = np.array([int(Path(name).stem) for name in names])
    a, b = number[found.pairs["a"]], number[found.pairs["b"]]
    wrong = int(((a % n_sources != b % n_sources) & (np.minimum(a, b) >= damaged)).sum())
    print(f"{n:,} images: looked at in {middle - start:.1f} s ({n / (middle - start):.0f} a second, "
          f"{1e3 * (cpu_middle - cpu) / n:.1f} ms of processor each); "
          f"copies searched in {end - middle:.1f} s ({cpu_end - cpu_middle:.1f} s of processor), {len(found.pairs):,} "
          f"found, {wrong} of them wrong; memory {before:.0f} -> {peak():.0f} MB")
    return data, find_quality(facts, data)


def against_cleanvision(folder: Path, data, quality):
    try: from cleanvision import Imagelab
    except ImportError:
        print("CleanVision is not installed: not compared")
        return
    start = time.perf_counter()
    lab = Imagelab(data_path=str(folder), verbose=False)
    lab.find_issues({k: {} for k in ("dark", "light", "low_information", "blurry", "odd_aspect_ratio", "odd_size",
                                     "grayscale")}, n_jobs=2, verbose=False)
    print(f"CleanVision, the same files: {time.perf_counter() - start:.1f} s (quality only)")
    issues = lab.issues.rename(index=lambda p: os.path.relpath(p, data.root).replace(os.sep, "/"))
    for column, ours in ISSUE.items():
        theirs = set(issues.index[issues[column]])
        mine = set(quality.loc[quality["issue"] == ours, "file_name"])
        anything = set(quality["file_name"])
        print(f"  {ours:16s} CleanVision {len(theirs):5d}   leuknb {len(mine):5d}   of theirs found by us "
              f"{len(theirs & mine):5d}, under another name {len((theirs - mine) & anything):4d}, not "
              f"{len(theirs - anything):4d}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--folder", help="real images to make the pictures of")
    chosen = parse(parser, images=300)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEUKNB_HOME"] = str(Path(folder) / "home")
        pictures = sources(chosen.folder)
        write_cuttings(Path(folder) / "images", chosen.images, pictures)
        against_cleanvision(Path(folder) / "images", *measure(Path(folder) / "images", len(pictures)))
