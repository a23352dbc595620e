"""How long honest evaluation takes: ours and plain scikit-learn loops, measured in one run on the same made-up
features.

    python benchmarks/evaluate.py                 ours in full, the plain loops in part and scaled up (said in the
      table)
    python benchmarks/evaluate.py --full          both in full (about ten minutes)
    python benchmarks/evaluate.py --lottery       also 200 random splits of 195 x 1,280 features

The work: five folds repeated ten times for svm, knn, ensemble and tree, and 1,000 shuffled labellings of the svm over
five folds. The plain loops fit the same pipelines with the same seeds one after the other, as scikit-learn's own
`cross_validate` and `permutation_test_score` would. While it measures it checks that both say the same: equal
classes, scores equal to 1e-6.
"""

import argparse
import os
import time

import numpy as np
import pandas as pd
import sklearn
from sklearn.base import clone

from leuknb.classification.estimators import class_scores, FOUR, make_classifier, study_classifier
from leuknb.core import rng, stream_seed
from leuknb.settings import make_settings
from leuknb.classification.fitting import run_folds, run_labellings
from leuknb.evaluation.splits import cv_splits, random_splits
from leuknb.evaluation.predict import labelled_images, predict_splits
from leuknb.evaluation.permutation import shuffled

from machine import keep, machine, parse



def made_up(n: int, n_features: int):
    "Rectified features with shared structure, 96 normal and 99 abnormal of 195."
    g = rng(0, "benchmark", n, n_features)
    y = (np.arange(n) >= round(n * 96 / 195)).astype(int)
    informative = 0.5 * (g.random(n_features) < 0.05)
    X = np.maximum(0, g.normal(size=(n, n_features)) + informative * y[:,
        None] + 0.3 * g.normal(size=(n, 20)) @ g.normal(size=(20, n_features)))
    return X.astype(np.float32), y


def timed(work):
    "Seconds on the clock, seconds of processor time, and the result."
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def plain_folds(X, y, splits, name):
    out = []
    for s, (train, test) in enumerate(splits):
        model = clone(make_classifier(name, seed=stream_seed(0, name, "cv", s))).fit(X[train], y[train])
        out.append((class_scores(model, X[test]), model.predict(X[test])))
    return out


def plain_labellings(X, labellings, splits, name):
    called = np.empty(labellings.shape, int)
    for i, y in enumerate(labellings):
        for train, test in splits:
            called[i, test] = clone(make_classifier(name)).fit(X[train], y[train]).predict(X[test])
    return called


def compare_folds(X, y, splits, name, part):
    "One classifier over the folds: ours on all, plain on the first `part` of them."
    ours_wall, ours_cpu, ours = timed(lambda: run_folds(X, y, splits, [study_classifier(name, len(X))], scheme="cv",
                                                        n_classes=2))
    wall, cpu, plain = timed(lambda: plain_folds(X, y, splits[:part], name))
    for (_, _, scores, called), (reference, said) in zip(ours, plain):
        assert np.array_equal(called, said) and np.abs(scores
                                                       - reference).max() < 1e-6, f"{name} differs from scikit-learn"
    factor = len(splits) / part
    return {"work": f"{name}, {len(splits)} fits", "ours_s": ours_wall, "ours_cpu_s": ours_cpu,
            "plain_s": wall * factor, "plain_cpu_s": cpu * factor, "plain_measured": part / len(splits)}


def compare_labellings(X, y, splits, n, part):
    "The permutation test of the svm: ours on n labellings, plain on the first `part`."
    fold = np.empty(len(y), int)
    for f, (_, test) in enumerate(splits): fold[test] = f
    labellings = np.stack([shuffled(y, fold, None, rng(0, "permutation", i)) for i in range(n)])
    svm = study_classifier("svm", len(X))
    ours_wall, ours_cpu, ours = timed(lambda: run_labellings(X, [(labellings, splits)], svm))
    wall, cpu, plain = timed(lambda: plain_labellings(X, labellings[:part], splits, "svm"))
    assert np.array_equal(ours[:part], plain), "the permutation test differs from scikit-learn"
    factor = n / part
    return {"work": f"{n} labellings of svm", "ours_s": ours_wall, "ours_cpu_s": ours_cpu, "plain_s": wall * factor,
            "plain_cpu_s": cpu * factor, "plain_measured": part / n}


def lottery(n_splits=200):
    "The split lottery as a report runs it."
    X, y = made_up(195, 1280)
    table = pd.DataFrame({"file_name": [f"{i:03d}.png" for i in range(195)],
                          "label": np.where(y, "abnormal", "normal")})
    settings = make_settings(positive="abnormal")
    who = labelled_images(table, settings)
    wall, cpu, _ = timed(lambda: predict_splits(X, who, random_splits(who.label, n=n_splits), settings, "splits"))
    return {"work": f"lottery: {n_splits} splits, 4 models, 1,280 features", "ours_s": wall, "ours_cpu_s": cpu}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=195)
    parser.add_argument("--features", type=int, default=9216)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--full", action="store_true", help="run the plain loops in full")
    parser.add_argument("--lottery", action="store_true", help="also the split lottery")
    args = parse(parser, images=60, features=256, repeats=2)
    load = os.getloadavg()[0]
    X, y = made_up(args.images, args.features)
    splits = cv_splits(y, folds=5, repeats=args.repeats)
    rows = [compare_folds(X, y, splits, name, len(splits) if args.full else 5) for name in FOUR]
    rows.append(compare_labellings(X, y, splits[:5], args.permutations,
                                   args.permutations if args.full else min(10, args.permutations)))
    total = {"work": "all", **{k: sum(r[k] for r in rows) for k in ("ours_s", "ours_cpu_s", "plain_s", "plain_cpu_s")}}
    table = pd.DataFrame([*rows, total, *([lottery()] if args.lottery else [])])
    table["times_faster"] = table.plain_s / table.ours_s
    table["times_less_cpu"] = table.plain_cpu_s / table.ours_cpu_s
    print(table.round({"ours_s": 2, "ours_cpu_s": 2, "plain_s": 1, "plain_cpu_s": 1, "plain_measured": 3,
                       "times_faster": 1, "times_less_cpu": 1}).to_string(index=False, na_rep="-"))
    print("plain_measured: the share of the plain loop that was run; its times are scaled up by the inverse. cpu_s: "
          "processor seconds of all threads,")
    print(f"the fairer measure when others use the machine (load when this began: {load:.1f})")
    facts = {"machine": machine(), "load_at_start": load, "images": args.images, "features": args.features,
             "scikit_learn": sklearn.__version__, "numpy": np.__version__}
    rows = [{k: v for k, v in row.items() if v == v} for row in table.to_dict("records")]
    keep("evaluate", {**facts, "rows": rows}, args.quick)


if __name__ == "__main__": main()
