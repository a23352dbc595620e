"""What a model says of patients it never saw and of images it should not answer for, measured on real smears.

    python benchmarks/model.py        presets demo and best on deepapl (in the folder that LEUKNB_DATA names)
    python benchmarks/model.py --presets demo --splits 20 --speed

A model is trained on deepapl (73 patients). Asked are: patients that were held out (random quarters of the patients,
the whole procedure repeated on the rest), the cells of healthy donors from another hospital (pbc), photographs,
textures, gradients, noise and plain colours. --speed: seconds of a fresh process from its start to the first answer,
and images a second of `predict` against bare feature extraction on the same files, in turn. Results of a preset
replace those in results/model.json; each bears its day.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from leuknb.core import rng
from leuknb.settings import make_settings
from leuknb.data.datasets import load_dataset
from leuknb.classification.estimators import study_classifiers
from leuknb.evaluation.splits import cv_splits, random_splits
from leuknb.evaluation.predict import labelled_images
from leuknb.features.extraction import extract
from leuknb.features.transformer import CNNFeatures
from leuknb.modeling.training import dataset_looks, decided, fit_all, fit_rules, in_sets, scores_by, train
from leuknb.modeling.model import Model
from leuknb.modeling.out_of_distribution import looks
from leuknb.evaluation.intervals import proportion_interval

from machine import keep, machine, parse, RESULTS

DATA = Path(os.environ.get("LEUKNB_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
FIRST = ("import sys; from leuknb.modeling.model import Model; m = Model.load(sys.argv[1]); "
         "print(m.predict(sys.argv[2]).verdict[0])")


def strange(seed: int = 0) -> dict[str, list[np.ndarray]]:
    "Images that are no smears."
    g = rng(seed, "strange")
    cut = lambda p, s: p[(y := int(g.integers(0, p.shape[0] - s))) : y + s,
                         (x := int(g.integers(0, p.shape[1] - s))) : x + s].copy()
    textures = []
    for _ in range(10):
        z = gaussian_filter(g.normal(size=(360, 360, 3)), (g.uniform(2, 30),) * 2 + (0,))
        textures.append((255 * (z - z.min()) / (z.max() - z.min())).astype(np.uint8))
    ramp = np.linspace(0, 1, 360)[:, None, None]
    gradients = [np.broadcast_to(a * (1 - ramp) + b * ramp, (360, 360, 3)).astype(np.uint8) for a,
                 b in g.integers(0, 256, (10, 2, 3))]
    return {"photographs": [cut(p, int(g.integers(120, 420))) for p in load_sample_images().images for _ in range(10)],
            "noise": [g.integers(0, 256, (360, 360, 3), dtype=np.uint8) for _ in range(10)],
            "textures": textures, "gradients": gradients,
            "plain colours": [np.full((360, 360, 3), c, np.uint8) for c in g.integers(0, 256, (10, 3))]}


def turned_away(rules, A, X) -> dict:
    """How many images there are, the share said to be unlike the training data, and the shares for their looks and
    for their content.
    """
    beyond = rules.detector.distances(A, X) > 1
    return {"n": len(X), "unlike": float(beyond.any(1).mean()), "looks": float(beyond[:, 0].mean()),
            "content": float(beyond[:, 1].mean())}


def held_out(X, A, who, settings, n_splits: int) -> dict:
    "Coverage, acceptance and rates over random quarters of the patients, interval over patients."
    found = {k: np.full((len(X), n_splits), np.nan) for k in ("covered", "one_class", "accepted", "right")}
    for s, (a, b) in enumerate(random_splits(who.label, who.groups, n_splits, 0.25, 0, "model benchmark")):
        mine = who.subset(a)
        folds = cv_splits(mine.label, mine.groups, settings.cv_folds, 1, s)
        fits = fit_all(X[a], mine, folds, study_classifiers(settings, len(X))[0], settings)
        rules = fit_rules(fits, X[a], A[a], mine, folds)
        sets = in_sets(rules.conformal, fits.models[1:], X[b])
        found["covered"][b, s], found["one_class"][b, s] = sets[np.arange(len(b)), who.y[b]], sets.sum(1) == 1
        found["accepted"][b, s] = (rules.detector.distances(A[b], X[b]) <= 1).all(1)
        found["right"][b, s] = decided(rules, scores_by(fits.models[0], X[b])) == who.y[b]
        print(f"split {s + 1} of {n_splits}", flush=True)
    out = {"n_splits": n_splits}
    for name, values in found.items():
        seen = ~np.isnan(values).all(1)
        interval = proportion_interval(np.nanmean(values[seen], 1), who.groups[seen])
        out[name] = {"share": interval.value, "ci": [interval.low, interval.high]}
    for c, name in enumerate(who.classes): out[f"covered_{name}"] = float(np.nanmean(found["covered"][who.y == c]))
    return out


def first_answer(folder: Path, image: Path, n: int = 3) -> float:
    "Median seconds of a fresh process from its start to the answer for one image."
    took = []
    for _ in range(n):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST, str(folder), str(image)], check=True, capture_output=True)
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def speed(model: Model, paths: list[Path], n: int = 3) -> dict:
    "Images a second of predict and of bare feature extraction on the same files, in turn."
    names = [k for k in CNNFeatures().get_params() if hasattr(model.settings, k)]
    features = CNNFeatures(**{k: getattr(model.settings, k) for k in names}).fit()
    took = {"predict": [], "extract": []}
    for _ in range(n):
        for name, work in (("extract", features.transform), ("predict", model.predict)):
            start = time.perf_counter()
            work(paths)
            took[name].append(len(paths) / (time.perf_counter() - start))
    return {name: float(np.median(v)) for name, v in took.items()}


def measure(preset: str, n_splits: int, timed: bool) -> dict:
    settings = make_settings(preset, data=str(DATA / "deepapl"))
    dataset, pbc = load_dataset(settings), load_dataset(make_settings(preset, data=str(DATA / "pbc")))
    X, A, who = extract(dataset, settings), dataset_looks(dataset, settings), labelled_images(dataset, settings)
    splits = cv_splits(who.label, who.groups, settings.cv_folds, 1, settings.seed)
    rules = fit_rules(fit_all(X, who, splits, study_classifiers(settings, len(X))[0], settings), X, A, who, splits)
    print(f"{preset}: fitted", flush=True)
    found = {"measured": str(date.today())}
    found |= {"asked": {"pbc": turned_away(rules, dataset_looks(pbc, settings), extract(pbc, settings))}}
    names = [k for k in CNNFeatures().get_params() if hasattr(settings, k)]
    features = CNNFeatures(**{k: getattr(settings, k) for k in names}).fit()
    for name, images in strange().items():
        found["asked"][name] = turned_away(rules, looks(images), features.transform(images))
    print(json.dumps(found), flush=True)
    found["held_out"] = held_out(X, A, who, settings, n_splits)
    if timed: found["speed"] = measure_speed(settings)
    return found


def measure_speed(settings) -> dict:
    files = sorted((DATA / "pbc").glob("*/*.jpg"))
    with tempfile.TemporaryDirectory() as there:
        start = time.perf_counter()
        folder = train(settings, Path(there) / "model", tell=lambda line: print(line, flush=True))
        trained = time.perf_counter() - start
        return {"train_seconds": round(trained, 1), "megabytes": round(sum(p.stat().st_size
            for p in folder.iterdir()) / 1e6, 2), "checks": Model.load(folder).manifest.checks,
                "first_answer_seconds": round(first_answer(folder, files[0]), 2),
                "images_a_second": speed(Model.load(folder), files[:96])}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--presets", nargs="+", default=["demo", "best"])
    options.add_argument("--splits", type=int, default=20)
    options.add_argument("--speed", action="store_true")
    given, path = parse(options, presets=["demo"], splits=2), RESULTS / "model.json"
    before = json.loads(path.read_text()).get("presets", {}) if path.exists() else {}
    for p in given.presets:
        before[p] = measure(p, given.splits, given.speed)
        done = {"data": "trained on deepapl (73 patients, 1,548 images); asked about pbc (320 images of healthy "
                        "donors, another hospital) and images that are no smears",
                "machine": machine(), "presets": before}
        keep("model", done, given.quick)
    print(json.dumps(done, indent=1))
