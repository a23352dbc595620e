"""Whether the evidence maps can be believed, on real and on synthetic images, and how long a page of examples takes.

    python benchmarks/explain.py --data FOLDER     FOLDER: real images (class folders, or metadata.csv); without it
      only the simulator's
    python benchmarks/explain.py --images 12       images whose patches are painted over, of each set and recipe (36
      forward passes each, of two views for best)
    python benchmarks/explain.py --only demo       one recipe; what the file holds of others is kept

For the presets demo, best and imagenet (the last layer alone, of the whole frame), with a linear support vector
machine fitted on the training part of the holdout, on images of its test part:
- sum: the largest difference between the score and bias + evidence, relative to the largest score
- painting: area between the curves of deletion and insertion by evidence and by random or reverse order, in units of
  the decision score, and in how many images the order by evidence was the better one, 95 % intervals over images
- inside: share of the evidence inside the white cell beside the cell's share of the image (synthetic: the drawn cell;
  real: the cell found by its stain, which is no truth)
- agreement: mean rank correlation of maps with those of a random network, between two halves of the training images,
  and with those of shuffled labels (interval and range over the labellings)
- neighbours: how often the nearest image of another patient has the same label, by either distance
- cpu_seconds: processor time of a page of eight examples, the network in memory, median of three
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from leuknb.explanation.examples import explain_predictions, refit_holdout
from leuknb.data.segmentation import SIDE, white_cells
from leuknb.classification.estimators import make_classifier, scores
from leuknb.settings import make_settings
from leuknb.data.datasets import load_dataset
from leuknb.evaluation.predict import evaluate
from leuknb.explanation.evidence import evidence_map, extractor_of, linear_score, neighbours
from leuknb.explanation.faithfulness import (
    areas, curves, FILLS, localisation, map_correlations, mean_interval, with_random_weights)
from leuknb.features.extraction import extract
from leuknb.data.images import decode, resize
from leuknb.data.synthetic import read_masks

from machine import keep, parse, RESULTS

SIMULATED = {"n_images": 195, "seed": 0}
RECIPES = ("demo", "best", "imagenet")
SHUFFLES = 12  # labellings: maps of one shuffled model lean all the same way, whichever way that is


def masks_of(dataset, table, images):
    "The white cells: as drawn where the simulator says so, else as found by their stain."
    if dataset.synthetic: return [read_masks(dataset.root / name)["white"] for name in table["mask"]]
    return [white_cells(resize(rgb, SIDE)).mask for rgb in images]


def agreement(held, settings, X, images, found):
    "Mean rank correlations of maps between models, with intervals."
    y, train = held.who.y, held.train
    mean = X[train].mean(0)

    def fitted(rows, labels): return make_classifier("svm", **settings.params.get("svm", {})).fit(X[rows], labels)
    def maps(classifier, s=settings): return [evidence_map(linear_score(classifier, 1), s, rgb, mean) for rgb in images]

    with tempfile.TemporaryDirectory() as folder: broken = maps(held.pipeline, with_random_weights(settings, folder))
    halves = [maps(fitted(part, y[part])) for part in (train[::2], train[1::2])]
    pairs = {"random network": (found, broken), "two halves": halves}
    shuffled = [fitted(train, np.random.default_rng(s).permutation(y[train])) for s in range(SHUFFLES)]
    means = [mean_interval(map_correlations(found, maps(classifier)))[0] for classifier in shuffled]
    return {**{name: mean_interval(map_correlations(*pair))[:3] for name, pair in pairs.items()},
            "shuffled labels": mean_interval(means)[:3], "of shuffles": [min(means), max(means)]}


def neighbour_agreement(held, X):
    "How often the nearest image of another patient has the same label."
    group, label = np.where(held.who.group == "", held.who.file_name, held.who.group), held.who.label
    def right(i, metric):
        return label[neighbours(held.pipeline, X, X[i], 1, group == group[i], metric)[0][0]] == label[i]
    return {metric: float(np.mean([right(i, metric) for i in range(len(X))])) for metric in ("cosine", "euclidean")}


def measure(preset: str, changes: dict, n_painted: int) -> dict:
    "All numbers of one set and recipe."
    settings = make_settings(preset, classifiers=["svm"], n_splits=0, cv_repeats=0, **changes)
    dataset = load_dataset(settings)
    X = extract(dataset, settings)
    predictions = evaluate(X, dataset, settings)
    held = refit_holdout(dataset, settings, X, predictions)
    table = dataset.usable.iloc[held.test]
    images = [decode(dataset.read(name)) for name in table["file_name"]]
    line, mean = linear_score(held.pipeline, 1), X[held.train].mean(0)
    found = [evidence_map(line, settings, rgb, mean) for rgb in images]
    said = scores(held.pipeline, X[held.test])
    extractor, painted = extractor_of(settings), np.linspace(0, len(images) - 1,
                                                             min(n_painted, len(images))).round().astype(int)

    def score_of(pictures): return line(extractor.transform(pictures))

    out = {"images": len(X), "explained": len(images), "painted": len(painted),
           "sum": float(max(abs(e.total - s) for e, s in zip(found, said)) / np.abs(said).max())}
    out["painting"] = {fill: areas(curves(score_of, [images[i] for i in painted], [found[i] for i in painted], 5,
                                          fill)).to_dict("records") for fill in FILLS}
    out["inside"] = localisation(found, masks_of(dataset, table, images)).to_dict("records")
    out["agreement"] = agreement(held, settings, X, images, found)
    out["neighbours"] = neighbour_agreement(held, X)
    out["cpu_seconds"] = statistics.median(page_seconds(dataset, settings, X, predictions) for _ in range(3))
    return out


def page_seconds(dataset, settings, X, predictions) -> float:
    import matplotlib.pyplot as plt

    start = time.process_time()
    explain_predictions(dataset, settings, X, predictions)
    plt.close("all")
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of real images")
    parser.add_argument("--images", type=int, default=12, help="images painted over")
    parser.add_argument("--only", choices=RECIPES, help="one recipe")
    asked = parse(parser, images=4, only="demo")
    sets = {**({Path(asked.data).name: {"data": asked.data}} if asked.data else {}),
            "synthetic": {"synthetic": SIMULATED}}
    path = RESULTS / "explain.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for recipe in [asked.only] if asked.only else RECIPES:
        for name, changes in sets.items():
            start = time.perf_counter()
            found = results[f"{name}, {recipe}"] = measure(recipe, changes, asked.images)
            print(f"{name}, {recipe}: {time.perf_counter() - start:.0f} s", json.dumps(found), flush=True)
            keep("explain", results, asked.quick)


if __name__ == "__main__": main()
