"""What the classifier after the default features can gain: other C, weights of classes, kernels, logistic regression.

    python benchmarks/last_step.py       deepapl and blast195 (in the folder that LEUKNB_DATA names)

Of the first set: AUROC and balanced accuracy of a cross-validation, patients apart, means over repeats. Of the second:
the mean accuracy over random splits, 80 % of the images for training, that ignore patients, as the paper split, and
that keep them apart. `error` is the standard error of such a mean over splits as if they were independent: what other
draws of as many splits would change, not what other patients would.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from machine import keep, machine, parse
from scoring import cross_validated, FOLDS, right

DATA = Path(os.environ.get("LEUKNB_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))
REPEATS, SPLITS = 10, 1000
LOGISTIC = "sklearn.linear_model.LogisticRegression"
TRIED = [("svm", {"C": c}) for c in (0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.0, 3.0)] + [
    ("svm", {"C": 0.3, "class_weight": "balanced"}), ("svm", {"C": 3.0, "kernel": "rbf", "gamma": 0.3}),
    ("svm", {"C": 0.3, "kernel": "poly", "degree": 2, "gamma": 1.0, "coef0": 1.0}),
    (LOGISTIC, {"C": 1.0, "max_iter": 2000}), (LOGISTIC, {"C": 3.0, "max_iter": 2000})]


def split_often(X, y, classifier, groups, n: int) -> dict:
    "Mean accuracy over random splits in percent, and its standard error."
    from leuknb.evaluation.splits import random_splits

    found = right(X, y, classifier, random_splits(y, groups, n))
    return {"accuracy": float(found.mean()), "error": float(found.std(ddof=1) / np.sqrt(n))}


def judged(X, datasets, classifier, repeats: int, splits: int) -> dict:
    "A row of the table."
    auroc, balanced = cross_validated(X[0], datasets[0].y, datasets[0].groups, classifier, repeats)
    y, groups = datasets[1].y, datasets[1].groups
    return {"classifier": classifier[0], "params": classifier[1], "auroc": auroc, "balanced_accuracy": balanced,
            "random_splits": split_often(X[1], y, classifier, None, splits),
            "patients_apart": split_often(X[1], y, classifier, groups, splits)}


def main() -> None:
    from leuknb.data.datasets import load_dataset
    from leuknb.features.extraction import extract
    from leuknb.settings import make_settings

    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--sets", nargs=2, default=["deepapl", "blast195"])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--splits", type=int, default=SPLITS)
    args = parse(parser, repeats=1, splits=5, sets=["blast195", "blast195"])
    settings = [make_settings(data=str(DATA / name)) for name in args.sets]
    datasets = [load_dataset(s) for s in settings]
    X, rows = [extract(d, s) for d, s in zip(datasets, settings)], []
    for name, params in TRIED:
        rows.append(judged(X, datasets, (name, {"blocks": "all", **params}), args.repeats, args.splits))
        print(*rows[-1].values(), flush=True)
    keep("last_step", {"machine": machine(), "sets": args.sets, "folds": FOLDS, "repeats": args.repeats,
                       "splits": args.splits, "rows": rows}, args.quick)


if __name__ == "__main__": main()
