"""What a model says of patients it never saw and of images it should not answer for, measured on real smears.

    python benchmarks/model.py                    presets demo and best on deepapl (the folder ../shared/data, or LEUKNB_DATA)
    python benchmarks/model.py --presets demo --splits 5

A model is trained on deepapl (73 patients). Asked are: patients that were held out (random quarters of the patients, the whole procedure repeated on the rest), the cells of
healthy donors from another hospital (pbc), photographs, textures, gradients, noise and plain colours. Beside it: seconds from start to the first answer of `leuknb predict`-like
calls in a fresh process, and images a second of `predict` against `extract` on the same images.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from leuknb.core import make_settings, rng
from leuknb.datasets import load_dataset
from leuknb.evaluate import cases, cv_splits, random_splits
from leuknb.features import CNNFeatures, extract
from leuknb.model import UNLIKE, Model, _looks_of, _subset, decided, fit_all, fit_rules, in_sets, scores_by, train
from leuknb.statistics import proportion_interval

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("LEUKNB_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
FIRST = "import sys; from leuknb.model import Model; m = Model.load(sys.argv[1]); print(m.predict(sys.argv[2]).verdict[0])"


def strange(seed: int = 0) -> dict[str, list[np.ndarray]]:
    "Images that are no smears."
    g = rng(seed, "strange")
    cut = lambda p, s: p[(y := int(g.integers(0, p.shape[0] - s))) : y + s, (x := int(g.integers(0, p.shape[1] - s))) : x + s].copy()
    textures = []
    for _ in range(20):
        z = gaussian_filter(g.normal(size=(360, 360, 3)), (g.uniform(2, 30),) * 2 + (0,))
        textures.append((255 * (z - z.min()) / (z.max() - z.min())).astype(np.uint8))
    ramp = np.linspace(0, 1, 360)[:, None, None]
    gradients = [np.broadcast_to(a * (1 - ramp) + b * ramp, (360, 360, 3)).astype(np.uint8) for a, b in g.integers(0, 256, (20, 2, 3))]
    return {"photographs": [cut(p, int(g.integers(120, 420))) for p in load_sample_images().images for _ in range(20)], "noise": [g.integers(0, 256, (360, 360, 3), dtype=np.uint8) for _ in range(20)],
            "textures": textures, "gradients": gradients, "plain colours": [np.full((360, 360, 3), c, np.uint8) for c in g.integers(0, 256, (20, 3))]}


def unlike(model: Model, images) -> dict:
    answers = model.predict(images)
    return {"n": len(answers), "unlike": float((answers["verdict"] == UNLIKE).mean())}


def held_out(settings, n_splits: int) -> dict:
    "Coverage, acceptance and rates over random quarters of the patients, interval over patients."
    dataset = load_dataset(settings)
    X, A, who = extract(dataset, settings), _looks_of(dataset, settings), cases(dataset, settings)
    found = {k: np.full((len(X), n_splits), np.nan) for k in ("covered", "one_class", "accepted", "right")}
    for s, (a, b) in enumerate(random_splits(who.label, who.together, n_splits, 0.25, 0, "model benchmark")):
        mine = _subset(who, a)
        folds = cv_splits(mine.label, mine.together, settings.cv_folds, 1, s)
        fits = fit_all(X[a], mine, folds, settings)
        rules = fit_rules(fits, X[a], A[a], mine, folds)
        sets = in_sets(rules, fits.models[1:], X[b])
        found["covered"][b, s], found["one_class"][b, s] = sets[np.arange(len(b)), who.y[b]], sets.sum(1) == 1
        found["accepted"][b, s] = (rules.detector.novelty(A[b], X[b]) <= 1).all(1)
        found["right"][b, s] = decided(rules, scores_by(fits.models[0], X[b])) == who.y[b]
    out = {"n_splits": n_splits}
    for name, values in found.items():
        seen = ~np.isnan(values).all(1)
        means = np.nanmean(values[seen], 1)
        interval = proportion_interval(means, who.together[seen])
        out[name] = {"share": float(np.mean([np.nanmean(v) for v in values.T])), "ci": [interval.low, interval.high]}
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


def measure(preset: str, n_splits: int) -> dict:
    settings = make_settings(preset, data=str(DATA / "deepapl"))
    pbc = sorted((DATA / "pbc").glob("*/*.jpg"))
    with tempfile.TemporaryDirectory() as there:
        start = time.perf_counter()
        folder = train(settings, Path(there) / "model", tell=lambda line: print(f"{preset}: {line}", flush=True))
        trained = time.perf_counter() - start
        model = Model.load(folder)
        found = {"train_seconds": round(trained, 1), "megabytes": round(sum(p.stat().st_size for p in folder.iterdir()) / 1e6, 2), "card": model.manifest.checks,
                 "asked": {"pbc": unlike(model, pbc), **{k: unlike(model, v) for k, v in strange().items()}},
                 "first_answer_seconds": round(first_answer(folder, pbc[0]), 2), "images_a_second": speed(model, pbc[:96])}
    return found | {"held_out": held_out(settings, n_splits)}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--presets", nargs="+", default=["demo", "best"])
    options.add_argument("--splits", type=int, default=20)
    given = options.parse_args()
    done = {"machine": {"cores": os.cpu_count(), "python": platform.python_version()}, "data": "deepapl (73 patients, 1,548 images); asked about pbc (320 images of healthy donors)",
            "presets": {p: measure(p, given.splits) for p in given.presets}}
    print(json.dumps(done, indent=1))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "model.json").write_text(json.dumps(done, indent=1) + "\n")
