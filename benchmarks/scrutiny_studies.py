"""Are wrong labels found, and does the forecast of a learning curve hold? Studies for benchmarks/coverage.py:
`STUDIES` maps a name to a function (studies, seed) that yields rows.

    python benchmarks/scrutiny_studies.py --studies 20
    python benchmarks/scrutiny_studies.py --data /path/to/images       labels of a set of one's own turned around

With `--data` five in a hundred labels of the set are turned around again and again; printed is how many are among the
twice as many images that are listed.
"""
from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from leuknb.auditing.labels import CLEARLY, find_suspects, flip_rate, held_out_scores, label_probabilities
from leuknb.classification.estimators import study_classifiers
from leuknb.classification.fitting import run_folds
from leuknb.core import rng
from leuknb.data.datasets import load_dataset
from leuknb.evaluation.learning_curve import forecast, measure_curve
from leuknb.evaluation.metrics import auroc
from leuknb.evaluation.predict import made_up_study
from leuknb.features.extraction import extract
from leuknb.settings import make_settings

from machine import parse

FLIPS = 0.05  # share of the labels that are turned around


def line(name, n, what, values, low, high, method, width=None):
    "One row of the table from outcomes."
    rate = float(np.mean(values))
    return {"study": name, "n": n, "grouped": True, "method": method, "what": what, "rate": round(rate, 4),
            "studies": len(values), "low": low, "high": high, "ok": bool(low <= rate <= high), "width": width}


def turned(y, generator):
    "Labels with some turned around, and which."
    wrong = generator.permutation(len(y))[: round(FLIPS * len(y))]
    labels = y.copy()
    labels[wrong] = 1 - labels[wrong]
    return labels, wrong


def found_share(X, labels, wrong, groups):
    "The share of the planted errors among twice as many listed."
    p = label_probabilities(held_out_scores(X, labels, groups), labels, groups)
    order = np.argsort(p[np.arange(len(labels)), labels], kind="stable")
    return float(np.isin(wrong, order[: 2 * len(wrong)]).mean())


def features_of(data: str, **settings):
    "Features, classes and groups of a set, as a run has them."
    chosen = make_settings(data=data, **settings)
    dataset = load_dataset(chosen)
    return extract(dataset, chosen), dataset


def flips(studies: int, seed: int):
    "Planted label errors: on synthetic smears as they are found, on made-up sets how often they are warned of."
    X, dataset = features_of("synthetic")
    shares = [found_share(X, *turned(dataset.y, rng(seed, "flips", i)), dataset.groups)
              for i in range(min(studies, 50))]
    yield line("flips", 195, "found among twice as many, synthetic smears", shares, 0.7, 1, "self-confidence")
    for effect, patient in ((1.1, 1.2), (2.5, 1.2), (4.0, 0.3)):
        clean, told, inside, right = [], [], [], []
        for i in range(min(studies, 100)):
            X, table = made_up_study(effect=effect, patient=patient, seed=seed + i)
            y, groups = (table.label == "abnormal").to_numpy(int), table.group.to_numpy(object)
            labels, wrong = turned(y, rng(seed, "flips", i))
            before, after = (held_out_scores(X, v, groups)[:, 1] for v in (y, labels))
            clean.append(flip_rate(before, y).p < CLEARLY)
            rate = flip_rate(after, labels)
            told.append(rate.p < CLEARLY)
            inside.append(rate.low <= len(wrong) / len(y) <= rate.high)
            right.append(((after > 0.5) == y).mean())
        how = f"{100 * np.mean(right):.0f} % called rightly"
        yield line("flips", 195, "clean labels warned of", clean, 0, 0.02, how)
        yield line("flips", 195, "5 % wrong: warned of", told, 0, 1, how)
        yield line("flips", 195, "5 % wrong: inside the interval", inside, 0.9, 1, how)


def population(generator, people, each, effect, patient, centres):
    "Images of new patients."
    y = np.repeat(np.arange(people) % 2, each)
    shape = (people, centres.shape[1])
    return (effect * centres[y] + patient * np.repeat(generator.normal(size=shape), each, 0)
            + generator.normal(size=(len(y), shape[1]))).astype(np.float32), y


def true_value(people, each, effect, patient, centres, settings, times=30):
    "Balanced accuracy and AUROC in new patients of a classifier that learnt from so many, the mean over training sets."
    generator, found = rng(1, "learning curve truth", people), []
    new, y = population(rng(1, "new patients"), 3000, each, effect, patient, centres)
    for _ in range(times):
        X, labels = population(generator, people, each, effect, patient, centres)
        split = np.arange(len(X)), np.arange(len(X), len(X) + len(new))
        [(_, _, score, called)] = run_folds(np.vstack([X, new]), np.concatenate([labels, y]), [split],
                                            study_classifiers(settings, len(X))[:1], n_classes=2, n_jobs=1)
        found.append((np.mean([(called[y == c] == c).mean() for c in (0, 1)]), auroc(y, score[:, 1])))
    return np.mean(found, 0)


DESIGNS = [("svm", 40, 2.5, 1.2), ("svm", 40, 0.6, 0.3), ("svm", 80, 1.1, 1.2), ("svm", 80, 0.6, 0.3),
           ("svm", 40, 1.1, 1.2), ("sklearn.linear_model.LogisticRegression", 40, 1.1, 1.2)]


def learning_curves(studies: int, seed: int):
    "Does the interval of the forecast hold what classifiers of twice as many patients truly reach?"
    centres = rng(5, "centres").normal(size=(2, 40)) * (np.arange(40) < 3)
    for model, people, effect, patient in DESIGNS:
        settings = make_settings(positive="b", classifiers=[model])
        truths = [true_value(round(s * people), 5, effect, patient, centres, settings) for s in (0.8, 1.6)]
        hits = {m: {"value": [], "gain": [], "value width": [], "gain width": []}
                for m in ("balanced_accuracy", "auroc")}
        for i in range(min(studies, 60)):
            X, y = population(rng(seed, "learning curve", i), people, 5, effect, patient, centres)
            table = pd.DataFrame({"file_name": [f"{j:04d}" for j in range(len(y))], "label": np.array(["a", "b"])[y],
                                  "group": [f"p{j // 5}" for j in range(len(y))]})
            curve = measure_curve(X, table, settings, n_jobs=1)
            for k, (m, h) in enumerate(hits.items()):
                f = forecast(curve, m, i)
                h["value"].append(f.value.low <= truths[1][k] <= f.value.high)
                h["gain"].append(f.gain.low - 0.001 <= truths[1][k] - truths[0][k] <= f.gain.high + 0.001)
                h["value width"].append(f.value.high - f.value.low)
                h["gain width"].append(f.gain.high - f.gain.low)
        how = f"{model.rpartition('.')[2]}, {truths[0][0]:.3f} to {truths[1][0]:.3f}"
        for m, h in hits.items():
            for what in ("value", "gain"):
                yield line("learning curve", 5 * people, f"{m}, {what} at twice the patients", h[what], 0.9, 1, how,
                           round(float(np.mean(h[f"{what} width"])), 3))


STUDIES = {"flips": flips, "learning curve": learning_curves}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(STUDIES), help="studies, separated by commas")
    parser.add_argument("--data", help="a set of images of one's own")
    options = parse(parser, arguments, studies=2)
    if options.data:
        X, dataset = features_of(options.data)
        shares = [found_share(X, *turned(dataset.y, rng(options.seed, "flips", i)), dataset.groups)
                  for i in range(options.studies)]
        print(f"{dataset.name}: {100 * np.mean(shares):.1f} % found over {len(shares)} draws of {FLIPS:.0%} "
              f"({100 * min(shares):.0f} to {100 * max(shares):.0f} %)")
        found = find_suspects(X, dataset, dataset.groups)
        print("as it is:", found.metrics)
        return
    for name in options.only.split(","):
        for row in STUDIES[name](options.studies, options.seed): print(row)


if __name__ == "__main__": main()
