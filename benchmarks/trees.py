"""Trees grown on counts against scikit-learn's: processor seconds and accuracy on the same random splits.

    python benchmarks/trees.py                          the synthetic default set
    python benchmarks/trees.py FOLDER [FOLDER ...]      and labelled sets of images, as `leuknb report` takes them

Features are those of the default preset; splits keep patients together. `difference` is the mean over splits of the
accuracy on counts less that of scikit-learn, `error` its standard error over splits, which share images and so are not
independent. One thread.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from machine import keep, machine, parse


def cost(work, *given):
    "What the work returns, and the processor seconds it took."
    start = time.process_time()
    found = work(*given)
    return found, time.process_time() - start


def of_scikit_learn(estimator, A, y, B):
    "Scores of a fit of scikit-learn's, a forest without its bookkeeping, as the headline is fitted."
    from leuknb.classification.fitting import forest_scores

    A, B = np.asfortranarray(A), np.asfortranarray(B)
    if hasattr(estimator, "n_estimators"): return forest_scores(estimator, A, y, B)
    return estimator.fit(A, y, check_input=False).predict_proba(B)


def compare(X, who, name, splits):
    "A row of the table: one classifier on all splits."
    from leuknb.classification.estimators import make_classifier
    from leuknb.classification.trees import count_scores

    rows = []
    for i, (train, test) in enumerate(splits):
        estimator = make_classifier(name, seed=i)[-1]
        (ours, ours_s), (theirs, theirs_s) = (cost(way, estimator, X[train], who.y[train], X[test])
                                              for way in (count_scores, of_scikit_learn))
        right = [(s.argmax(1) == who.y[test]).mean() for s in (ours, theirs)]
        rows.append((ours_s, theirs_s, *right, right[0] - right[1]))
    t = pd.DataFrame(rows, columns=["counts_s", "scikit_learn_s", "counts", "scikit_learn", "difference"])
    return {"classifier": name, "images": len(X), "features": X.shape[1], "splits": len(splits),
            **t.mean().round(4).to_dict(), "error": round(float(t.difference.std() / len(t) ** 0.5), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*")
    parser.add_argument("--fits", type=int, default=40, help="splits of a set of 195 images; fewer of larger ones")
    args = parse(parser, fits=2)
    from leuknb.data.datasets import load_dataset
    from leuknb.evaluation.predict import labelled_images
    from leuknb.evaluation.splits import random_splits
    from leuknb.features.extraction import extract
    from leuknb.settings import make_settings

    rows = []
    for data in ["synthetic", *args.data]:
        settings = make_settings(data=data)
        dataset = load_dataset(settings)
        X, who = extract(dataset, settings), labelled_images(dataset, settings)
        n = max(2, min(args.fits, args.fits * 310 // len(X)))
        splits = random_splits(who.label, who.groups, n, settings.test_size, 0)
        for name in ("ensemble", "tree"):
            rows.append({"set": dataset.name, **compare(X, who, name, splits)})
            print(rows[-1], flush=True)
    keep("trees", {"machine": machine(), "rows": rows}, args.quick)


if __name__ == "__main__": main()
