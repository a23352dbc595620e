"""Does the audit find what was planted, and does it keep quiet otherwise? Studies for benchmarks/coverage.py:
`STUDIES` maps a name to a function (studies, seed) that yields rows.

    python benchmarks/audit_studies.py --studies 20
"""
from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from leuknb.data.descriptors import image_facts
from leuknb.auditing.shortcuts import judge_probes, run_probes
from leuknb.auditing.audit import run_audit
from leuknb.core import rng, sha256
from leuknb.settings import make_settings, SyntheticSettings, View
from leuknb.data.datasets import load_dataset
from leuknb.data.descriptors import blocks, grey, invariants, working_copy
from leuknb.auditing.duplicates import find_duplicates
from leuknb.data.images import view
from leuknb.data.synthetic import draw_batch, write_smears

from machine import parse

KINDS = ("re-encoded", "resized", "turned", "cropped", "all at once")
MOST = 100  # sets of files that are drawn for a study, at most: one takes seconds


def line(name, n, what, hits, low, high):
    "One row of the table from outcomes 1 and 0."
    rate = float(np.mean(hits))
    return {"study": name, "n": n, "grouped": True, "method": "audit", "what": what, "rate": round(rate, 4),
            "studies": len(hits), "low": low, "high": high,
            "ok": bool(low <= rate <= high), "width": None}


def disguise(data: bytes, kind: str, generator) -> bytes:
    """A copy of an image file: quality 30-95, half to twice the size, any of the seven turns, up to 8 % cut off each
    side.
    """
    image, quality = Image.open(io.BytesIO(data)).convert("RGB"), int(generator.integers(80, 96))
    if kind in ("cropped", "all at once"):
        lost = [int(n * s) for n, s in zip(image.size, generator.uniform(0.02, 0.08, 2))]
        x, y = (int(generator.integers(n + 1)) for n in lost)
        image = image.crop((x, y, x + image.width - lost[0], y + image.height - lost[1]))
    if kind in ("resized", "all at once"):
        scale = np.exp(generator.uniform(np.log(0.5), np.log(2)))
        image = image.resize([max(8, round(n * scale)) for n in image.size], Image.Resampling.BICUBIC)
    if kind in ("turned", "all at once"):
        image = Image.fromarray(view(np.asarray(image), View.__args__[generator.integers(1, 8)]))
    if kind in ("re-encoded", "all at once"): quality = int(generator.integers(30, 96))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def search(files: list[bytes]):
    copies = np.stack([working_copy(f) for f in files])
    return find_duplicates(files.__getitem__, [sha256(f) for f in files], invariants(copies),
                           np.round(grey(blocks(copies, 32))).astype(np.uint8),
                           [Image.open(io.BytesIO(f)).size for f in files])


def planted_copies(files: list[bytes], n: int, seed: int):
    "Plant a disguised copy of each of n files: kind and found for each copy, and true or false for each pair reported."
    generator = rng(seed, "planted copies")
    source = generator.permutation(len(files))[:n]
    kinds = [KINDS[i % len(KINDS)] for i in range(n)]
    found = search([*files, *(disguise(files[s], k, generator) for s, k in zip(source, kinds))])
    of = np.concatenate([np.arange(len(files)), source])
    base = found.pairs[(found.pairs["a"] >= len(files)) | (found.pairs["b"] >= len(files))]
    return kinds, [found.cluster[s] == found.cluster[len(files) + i] for i,
                   s in enumerate(source)], (of[base["a"]] == of[base["b"]]).tolist()


def duplicates(studies: int, seed: int):
    "Copies of every kind among synthetic smears: recall by kind, precision of the pairs."
    outcome, right = {k: [] for k in KINDS}, []
    for i in range(max(1, min(studies, MOST) // 10)):
        files = []
        for rgb in draw_batch(SyntheticSettings(n_images=195, seed=seed + i), side=160).rgb:
            out = io.BytesIO()
            Image.fromarray(rgb).save(out, "JPEG", quality=90)
            files.append(out.getvalue())
        kinds, found, true = planted_copies(files, 100, seed + i)
        for k, f in zip(kinds, found): outcome[k].append(f)
        right += true
    for k in KINDS: yield line("duplicates", 195, f"recall, {k}", outcome[k], 0.98, 1.0)
    yield line("duplicates", 195, "recall, all kinds", sum(outcome.values(), []), 0.98, 1.0)
    yield line("duplicates", 195, "precision", right, 0.98, 1.0)


def _drawn(folder: str, seed: int, confounding: float):
    out = write_smears(Path(folder) / "set", SyntheticSettings(seed=seed, confounding=confounding))
    return load_dataset(make_settings(data=str(out)))


def shortcut(studies: int, seed: int):
    "Sets whose microscope goes with the label, always or in four of five patients: is there a warning?"
    settings = make_settings(permutations=200, cv_repeats=3)
    for confounding in (1.0, 0.8):
        told = []
        for i in range(min(studies, MOST)):
            with tempfile.TemporaryDirectory() as folder:
                data = _drawn(folder, seed + 5000 + i, confounding)
                told.append(bool(judge_probes(run_probes(image_facts(data, settings), data, settings))[0]))
        yield line("shortcut", 195, f"warned, confounding {confounding:g}", told, 0.95, 1.0)


def clean(studies: int, seed: int):
    "Sets like the default report's, nothing planted: is there any warning at all?"
    settings, told = make_settings(permutations=200, cv_repeats=3), []
    for i in range(min(studies, MOST)):
        with tempfile.TemporaryDirectory() as folder:
            told.append(bool(run_audit(_drawn(folder, seed + 9000 + i, 0.0), settings).warnings))
    yield line("clean", 195, "warned", told, 0.0, 0.05)


STUDIES = {"duplicates": duplicates, "shortcut": shortcut, "clean": clean}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--only", default=",".join(STUDIES))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parse(parser, studies=2)
    for name in chosen.only.split(","):
        for found in STUDIES[name](chosen.studies, chosen.seed): print(found, flush=True)
