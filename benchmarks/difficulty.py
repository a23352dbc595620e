"""What the simulator's `difficulty` means for a classifier: how often the default is right on 195 drawn smears.

    python benchmarks/difficulty.py

The default recipe and its first classifier, on three sets of each difficulty: the mean accuracy over random splits that
ignore patients, 80 % of the images for training, and over five folds that keep patients together.
"""

import argparse

import numpy as np

from machine import keep, machine, parse
from scoring import right

DIFFICULTIES, SEEDS, SPLITS, REPEATS = (0.0, 0.25, 0.5, 0.65, 0.75, 1.0), (0, 1, 2), 50, 4


def measure(difficulty: float, seed: int, n_images: int) -> dict:
    "One drawn set: its mean accuracies, and where the middle 95 % of single splits lie."
    from leuknb.data.datasets import load_dataset
    from leuknb.evaluation.splits import cv_splits, random_splits
    from leuknb.features.extraction import extract
    from leuknb.settings import make_settings

    settings = make_settings(synthetic={"difficulty": difficulty, "seed": seed, "n_images": n_images})
    dataset = load_dataset(settings)
    X, y = extract(dataset, settings), dataset.y
    classifier = "svm", settings.params.get("svm")
    splits = right(X, y, classifier, random_splits(y, None, SPLITS))
    folds = right(X, y, classifier, cv_splits(y, dataset.groups, repeats=REPEATS))
    return {"difficulty": difficulty, "seed": seed, "random_splits": splits.mean(), "patients_apart": folds.mean(),
            "single_split": np.quantile(splits, [0.025, 0.975]).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n_images", type=int, default=195)
    said, rows = parse(parser, n_images=60), []
    for difficulty in DIFFICULTIES:
        for seed in SEEDS:
            rows.append(measure(difficulty, seed, said.n_images))
            print(*rows[-1].values(), flush=True)
    keep("difficulty", {"machine": machine(), "images": said.n_images, "splits": SPLITS, "repeats": REPEATS,
                        "rows": rows}, said.quick)


if __name__ == "__main__": main()
