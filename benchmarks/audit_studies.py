"""Does the audit find what was planted, and does it keep quiet otherwise? Studies for benchmarks/coverage.py:
`STUDIES` maps a name to a function (studies, seed) that yields rows.

    python benchmarks/audit_studies.py --studies 20
"""
from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image

from leuknb.data.descriptors import Facts, image_facts
from leuknb.auditing.shortcuts import judge_probes, run_probes
from leuknb.auditing.audit import run_audit
from leuknb.evaluation.permutation import permutation_test
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


FEW = (8, 10, 12, 14, 40)  # patients, half of each class
EACH = 10  # images of a patient


def patient_labels(patients: int):
    "Group and class of each image: the classes take turns among the patients."
    return (np.repeat([f"p{i:02}" for i in range(patients)], EACH).astype(object),
            np.repeat(np.arange(patients) % 2, EACH))


def shared_noise(generator, patients: int, *shape):
    "Numbers [images, *shape] of unit variance, of which the images of a patient share half."
    own = generator.normal(size=(patients * EACH, *shape))
    return np.sqrt(0.5) * (np.repeat(generator.normal(size=(patients, *shape)), EACH, 0) + own)


def drawn_facts(patients: int, planted: str | None, seed: int):
    """What the probes see of images that never were, and the set they belong to: every patient looks a little alike,
    and with "file" or "colour" planted that one tells the classes apart without a mistake.
    """
    r, (groups, y) = rng(seed, "facts", patients), patient_labels(patients)
    noise = lambda *shape: shared_noise(r, patients, *shape)
    n = len(y)
    size = np.exp(10.5 + 0.1 * noise() + (3 * y if planted == "file" else 0))
    t = pd.DataFrame({"width": 480, "height": 360, "bytes": size, "bytes_per_pixel": size / (480 * 360),
                      "aspect_ratio": 4 / 3, "jpeg_quality": 90.0, "progressive": 0, "exif_entries": 0,
                      "colour_profile": 0, "dpi": 72, "format": "JPEG", "mode": "RGB", "camera": ""}, index=range(n))
    for c in "rgb":
        t[f"colour_mean_{c}"] = noise() + (12 * y if planted == "colour" else 0)
        t[f"colour_sd_{c}"], t[f"border_mean_{c}"] = noise(), noise()
    t["border_grain"] = noise()
    tiny = np.clip(128 + 30 * noise(8, 8, 3), 0, 255).astype(np.uint8)
    label = np.where(y == 1, "abnormal", "normal").astype(object)
    usable = pd.DataFrame({"file_name": [f"{i:04}.jpg" for i in range(n)], "label": label, "group": groups})
    return Facts(t, np.zeros((n, 123), np.float32), np.zeros((n, 32, 32), np.uint8), tiny), SimpleNamespace(
        labels=label, classes=["abnormal", "normal"], positive="abnormal", usable=usable, groups=groups, grouped=True)


def told_of(patients: int, planted: str | None, seed: int) -> list[dict]:
    "The warnings of the probes, in a run that asks for no permutation test and no cross-validation."
    facts, data = drawn_facts(patients, planted, seed)
    return judge_probes(run_probes(facts, data, make_settings(permutations=0, cv_repeats=0)))[0]


def few_patients(studies: int, seed: int):
    "A perfect shortcut, and none, with few patients: is the one mentioned, and the other let pass?"
    code = {"file": "LKB201", "colour": "LKB203"}
    for patients in FEW:
        for planted in code:
            told = [told_of(patients, planted, seed + i) for i in range(min(studies, MOST))]
            named = [any("size" in w["text"] or "Colour" in w["text"] for w in ws) for ws in told]
            yield line("few patients", patients, f"perfect {planted} mentioned", named, 1.0, 1.0)
            yield line("few patients", patients, f"perfect {planted} warned of by its code",
                       [any(w["code"] == code[planted] for w in ws) for ws in told],
                       0.0 if patients < 10 else 1.0, 1.0)
        told = [told_of(patients, None, seed + 700 + i) for i in range(min(4 * studies, 2 * MOST))]
        yield line("few patients", patients, "nothing planted, a shortcut warned of",
                   [any(w["code"] != "LKB205" for w in ws) for ws in told], 0.0, 0.05)
        yield line("few patients", patients, "nothing planted, not judged (LKB205)",
                   [any(w["code"] == "LKB205" for w in ws) for ws in told], 0.0, 0.0 if patients >= 10 else 1.0)


def label_permutation(studies: int, seed: int):
    "The permutation test of a linear machine: how often p is at most 0.05 where labels mean nothing, and where a lot."
    settings = make_settings(positive="abnormal", classifiers=["svm"], permutations=39)
    for patients in (6, 10, 12, 20):
        groups, y = patient_labels(patients)
        table = pd.DataFrame({"file_name": [f"{i:04}.png" for i in range(len(y))], "group": groups,
                              "label": np.where(y == 1, "abnormal", "normal")})
        for effect, band in ((0.0, (0.0, 0.0) if patients < 8 else (0.03, 0.06)),
                             (6.0, (0.0, 0.0) if patients < 8 else (0.95, 1.0))):
            p = []
            for i in range(min(12 * studies, 4 * MOST) if effect == 0 and patients > 6 else min(studies, MOST)):
                X = shared_noise(rng(seed, "permuted", patients, effect, i), patients, 8) + effect * y[:, None]
                fewer = settings.model_copy(update={"cv_folds": min(5, patients // 2), "seed": i})
                p.append(permutation_test(X, table, fewer, n_jobs=1)["p"] <= 0.05)
            yield line("permutation", patients, "p <= 0.05, " + ("no effect" if effect == 0 else "perfect model"), p,
                       *band)


STUDIES = {"few patients": few_patients, "permutation": label_permutation, "duplicates": duplicates,
           "shortcut": shortcut, "clean": clean}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--only", default=",".join(STUDIES))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parse(parser, studies=2)
    for name in chosen.only.split(","):
        for found in STUDIES[name](chosen.studies, chosen.seed): print(found, flush=True)
