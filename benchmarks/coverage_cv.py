"""Do the intervals of a cross-validation hold? The four classifiers of a report, cross-validated 10 x 5 times on drawn
studies; the truth is what the cross-validation comes to in the mean over such studies.

    python benchmarks/coverage_cv.py --studies 200 --predictions DIR --json benchmarks/results/coverage.json

With --predictions the drawn predictions are kept in DIR and found again, so that intervals can be judged anew without
fitting anything. The whole grid takes hours: --cells and --classifiers take a part of it.
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from leuknb.classification.estimators import FOUR, study_classifier
from leuknb.classification.fitting import run_folds
from leuknb.core import InputError, rng
from leuknb.evaluation.intervals import metric_intervals
from leuknb.evaluation.splits import cv_splits

from machine import keep_rows, parse

DESIGNS = {"39x5": [5] * 39, "73x20": [20] * 73, "195": [1] * 195, "1000": [1] * 1000,
           "half": [195] + [5] * 39}  # images of each patient; "half": one of them has half of all
WORDS = {"39x5": "39 patients of 5", "73x20": "73 patients of 20", "195": "195 apart", "1000": "1,000 apart",
         "half": "one patient with half"}
PREVALENCES = (0.5, 0.1, 0.02)
METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc")
WIDTH, SEEN, APART = 10, 3, 1.0  # features; those that tell the classes apart, by so many standard deviations each
REPEATS, FOLDS = 10, 5
COVER, FEW, DOMINATED = (0.93, 0.98), (0.93, 0.995), (0.92, 0.99)


def cells() -> list[tuple[str, float, float]]:
    "Design, correlation between images of one patient, prevalence."
    found = [(d, icc, p) for d in ("39x5", "73x20") for icc in (0.0, 0.3, 0.6) for p in PREVALENCES]
    return found + [(d, 0.0, p) for d in ("195", "1000") for p in PREVALENCES] + [("half", 0.3, 0.5)]


def drawn_labels(sizes, prevalence, generator):
    "A patient's images share their label; where five patients of the rarer class are too many, cells are drawn singly."
    n, rare = sum(sizes), round(prevalence * len(sizes))
    if max(sizes) == 1 or rare >= 5:
        return np.repeat(generator.permutation(np.arange(len(sizes)) < max(rare, 1)), sizes).astype(int)
    return generator.permutation(np.arange(n) < max(round(prevalence * n), 1)).astype(int)


def drawn_study(design, icc, prevalence, seed):
    "Features [n, WIDTH], labels and patients (None: apart) of one study."
    generator, sizes = rng(seed, "coverage", design, icc, prevalence), DESIGNS[design]
    y, patient = drawn_labels(sizes, prevalence, generator), np.repeat(np.arange(len(sizes)), sizes)
    shared = np.sqrt(icc) * generator.normal(size=(len(sizes), WIDTH))[patient]
    x = shared + np.sqrt(1 - icc) * generator.normal(size=(len(y), WIDTH))
    x[:, :SEEN] += APART * y[:, None]
    return x.astype(np.float32), y, patient if max(sizes) > 1 else None


def cross_validated(design, icc, prevalence, seed, name) -> dict:
    "Labels, and out-of-fold scores, calls and folds [n, repeats] of one classifier on one study."
    x, y, patient = drawn_study(design, icc, prevalence, seed)
    folds = min(FOLDS, int(y.sum()))
    splits = cv_splits(y, patient, folds, REPEATS, seed)
    out = {"y": y, "fold": np.empty((len(y), REPEATS), np.int8), "score": np.zeros((len(y), REPEATS), np.float32),
           "called": np.zeros((len(y), REPEATS), bool)}
    for s, _, scores, called in run_folds(x, y, splits, [study_classifier(name, len(y))], seed, "cv", n_classes=2,
                                          n_jobs=1):
        at = splits[s][1], s // folds
        out["fold"][at], out["score"][at], out["called"][at] = s % folds, scores[:, 1], called == 1
    return out


def predictions(cell, name, studies, folder: Path | None) -> dict:
    "The studies of a cell, stacked; those kept in the folder are read, missing ones made and kept."
    kept = folder and folder / f"{'_'.join(map(str, cell))}_{name}.npz"
    found = dict(np.load(kept)) if kept and kept.exists() else {}
    there = len(found.get("y", ()))
    made = [cross_validated(*cell, seed, name) for seed in range(there, studies)]
    parts = ([found] if there else []) + ([{k: np.stack([m[k] for m in made]) for k in made[0]}] if made else [])
    whole = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    if kept and made:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, **whole)
    return whole


def rows_of(cell, name, found) -> list[dict]:
    "How often each metric's interval held its mean over the studies."
    design, icc, prevalence = cell
    sizes = DESIGNS[design]
    patient = None if max(sizes) == 1 else np.repeat(np.arange(len(sizes)), sizes)
    each = [metric_intervals(y, called, score, patient, "score", fold=fold) for y, called, score, fold in
            zip(found["y"], found["called"], found["score"], found["fold"])]
    rare = min(_units(y, patient) for y in found["y"])
    band = DOMINATED if design == "half" else FEW if rare < 10 or len(sizes) < 20 else COVER
    return [_row(cell, name, m, np.array([e[m][:3] for e in each]), band) for m in METRICS]


def _units(y, patient) -> int:
    "Patients, or images, of the rarer class."
    return min(len(np.unique(patient[y == c])) if patient is not None else int((y == c).sum()) for c in (0, 1))


def _row(cell, name, metric, values, band) -> dict:
    design, icc, prevalence = cell
    value, low, high = values[~np.isnan(values).any(1)].T
    rate = float(np.mean((low <= value.mean() + 1e-12) & (value.mean() - 1e-12 <= high)))
    return {"study": "cv", "n": sum(DESIGNS[design]), "grouped": max(DESIGNS[design]) > 1, "design": WORDS[design],
            "icc": icc, "prevalence": prevalence, "method": name, "what": metric,
            "truth": round(float(value.mean()), 4),
            "rate": round(rate, 4), "studies": len(value), "low": band[0], "high": band[1],
            "ok": bool(band[0] <= rate <= band[1]), "width": round(float((high - low).mean()), 3)}


def cv(studies: int, seed: int = 0, names=tuple(FOUR), chosen=None, folder: Path | None = None):
    "The grid, row by row. A cell that no split can serve yields nothing."
    for cell in chosen or cells():
        for name in names:
            start = time.perf_counter()
            try: found = predictions(cell, name, studies, folder)
            except InputError as e:
                print(f"{cell}: {e}", file=sys.stderr)
                break
            yield from rows_of(cell, name, found)
            print(f"{cell} {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--classifiers", default=",".join(FOUR))
    parser.add_argument("--cells", help="such as 39x5:0.3:0.5, separated by commas; all without it")
    parser.add_argument("--predictions", type=Path, help="folder in which predictions are kept")
    parser.add_argument("--json", type=Path, help="write the rows there; rows of other studies stay")
    o = parse(parser, arguments, studies=2, classifiers="svm,knn,tree", cells="39x5:0.3:0.5,195:0.0:0.1")
    chosen = [(d, float(i), float(p)) for d, i, p in (c.split(":") for c in o.cells.split(","))] if o.cells else None
    rows = []
    for r in cv(o.studies, 0, o.classifiers.split(","), chosen, o.predictions):
        rows.append(r)
        print(f"{r['design']:22} icc {r['icc']:.1f}  {r['prevalence']:4.0%}  {r['method']:9}{r['what']:18}"
              f"{100 * r['rate']:6.1f} % of {r['studies']}  width {r['width']:.3f}{'' if r['ok'] else '  outside'}",
              flush=True)
    if o.json and not o.quick: keep_rows(o.json, ["cv"], rows)


if __name__ == "__main__": main()
