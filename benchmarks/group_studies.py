"""Is a worse subgroup found as often as the report says it would be, and is one found where there is none? Studies for
benchmarks/coverage.py: `STUDIES` maps a name to a function (studies, seed) that yields rows.

    python benchmarks/group_studies.py --studies 300
"""
from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
import pandas as pd
from scipy import stats

from leuknb.core import rng
from leuknb.evaluation.predict import evaluate
from leuknb.evaluation.intervals import metric_intervals
from leuknb.evaluation.sites import leave_one_site_out, site_index, site_rows
from leuknb.evaluation.subgroups import detectable, difference_ends, difference_p, side_rates, subgroup_rows
from leuknb.evaluation.use import likelihood_ratios, predictive_values
from leuknb.settings import make_settings

from machine import parse

COVER, FEW = (0.93, 0.98), (0.93, 0.995)
SHIFT = 1.2  # of a score behind each call: 88 % are right
HARDER = 0.8  # by how much the group lies lower: 66 % are right
WORSE = ("no group worse", "a worse group")
# patients, images of each, share of the patients (of the images, where the group lies within patients), correlation
DESIGNS = ((39, 5, 0.3, 0.3, True), (39, 5, 0.3, 0.3, False), (60, 5, 0.33, 0.0, True), (60, 5, 0.33, 0.6, True),
           (73, 20, 0.2, 0.3, True), (73, 20, 0.2, 0.3, False), (195, 1, 0.3, 0.0, True), (195, 1, 0.1, 0.0, True))


def row(study, n, grouped, method, what, hits, band, width=None):
    "One line of the table."
    rate = float(np.mean(hits))
    return {"study": study, "n": int(n), "grouped": grouped, "method": method, "what": what, "rate": round(rate, 4),
            "studies": len(hits), "low": round(band[0], 4), "high": round(band[1], 4),
            "ok": bool(band[0] <= rate <= band[1]), "width": None if width is None else round(float(np.mean(width)), 3)}


def promised(true: float, told: float) -> float:
    "The power for a true difference, where the difference that would be found with 80 % is told."
    ask = stats.norm.ppf(0.975)
    return float(stats.norm.cdf(abs(true) / told * (ask + stats.norm.ppf(0.8)) - ask))


def subgroups(studies, seed):
    "A group against the rest, calls of a fixed rule: none, and a harder one."
    for patients, images, share, icc, of_patients in DESIGNS:
        patient, few = np.repeat(np.arange(patients), images), share * patients < 20
        design = f"{patients} patients of {images}, {share:.0%} of their {'patients' if of_patients else 'images'}, " \
                 f"ICC {icc:g}"
        for harder in (0.0, HARDER):
            g = rng(seed, "subgroups", patients, images, share, icc, of_patients, harder)
            hold, found, told, width = [], [], [], []
            true = stats.norm.cdf(SHIFT - harder) - stats.norm.cdf(SHIFT)
            for _ in range(studies):
                inside = (g.permutation(patients) < round(share * patients))[patient] if of_patients \
                    else g.random(len(patient)) < share
                z = SHIFT - harder * inside + np.sqrt(icc) * g.standard_normal(patients)[patient] \
                    + np.sqrt(1 - icc) * g.standard_normal(len(patient))
                rates = side_rates((z > 0)[:, None], (patient % 2).astype(str), inside, patient)
                low, high = difference_ends(rates)
                hold.append(low <= true <= high)
                found.append(difference_p(rates) <= 0.05)
                told.append(detectable(sum(r.weight * r.value for r in rates), high))
                width.append(high - low)
            yield row("subgroups", len(patient), images > 1, design, f"interval holds, {WORSE[bool(harder)]}", hold,
                      FEW if few else COVER, width)
            if not harder: yield row("subgroups", len(patient), images > 1, design, "found where none is", found,
                                     (0.0, 0.06))
            else:
                power = promised(true, np.mean(told))
                yield row("subgroups", len(patient), images > 1, design, "worse group found", found,
                          (power - 0.06, power + 0.06))


def made_up(g, patients, images, harder, n_features=12):
    "Features, a table, and which images are of a group whose classes lie nearer to each other."
    patient = np.repeat(np.arange(patients), images)
    y, inside = patient % 2, (g.permutation(patients) < patients // 3)[patient]
    shift = np.where(inside, 1 - harder, 1.0) * (2 * y - 1)
    X = 0.5 * g.normal(size=(patients, n_features))[patient] + g.normal(size=(len(y), n_features))
    X[:, :2] += 0.75 * shift[:, None]
    table = pd.DataFrame({"file_name": [f"{i:05d}" for i in range(len(y))], "label": np.where(y, "abnormal", "normal"),
                          "group": [f"p{p:03d}" for p in patient]})
    return X.astype(np.float32), table, inside


def cross_validated_groups(studies, seed):
    "The rows of a report: a linear machine over five folds, three repeats, two groups of 60 patients, a second column."
    settings = make_settings(n_splits=0, cv_repeats=3, classifiers=["svm"], positive="abnormal")
    for harder in (0.0, 0.9):
        values, ends, found, any_alarm, told = [], [], [], [], []
        for i in range(studies):
            g = rng(seed, "cross-validated groups", harder, i)
            X, table, inside = made_up(g, 60, 5, harder)
            other = np.array(["x", "y", "z"])[(g.permutation(60) % 3).repeat(5)]
            columns = {c: pd.Series(pd.Categorical(v), table.file_name)
                       for c, v in (("group", np.where(inside, "in", "out")), ("other", other))}
            rows = subgroup_rows(evaluate(X, table, settings), columns, "abnormal")
            values.append(rows[0]["difference"]["value"])
            ends.append(rows[0]["difference"]["ci"])
            found.append(rows[0]["p_adjusted"] <= 0.05)
            told.append(rows[0]["detectable"])  # at Holm's correction for four tests
            any_alarm.append(any(r["p_adjusted"] <= 0.05 for r in (rows[2:] if harder else rows)))
        true, ends = np.mean(values), np.array(ends)
        yield row("subgroups_cv", 300, True, "svm, 5 x 3 folds", f"interval holds, {WORSE[bool(harder)]}",
                  (ends[:, 0] <= true) & (true <= ends[:, 1]), COVER, ends[:, 1] - ends[:, 0])
        yield row("subgroups_cv", 300, True, "svm, 5 x 3 folds", f"any found where none is, {WORSE[bool(harder)]}",
                  any_alarm, (0.0, 0.06))
        if harder:
            ask = stats.norm.ppf(1 - 0.025 / 4)
            power = float(stats.norm.cdf(abs(true) / np.mean(told) * (ask + stats.norm.ppf(0.8)) - ask))
            yield row("subgroups_cv", 300, True, "svm, 5 x 3 folds", "worse group found", found,
                      (power - 0.1, power + 0.1))


def use(studies, seed):
    "Likelihood ratios and predictive values at 2 %, calls of a fixed rule."
    for patients, images, icc in ((195, 1, 0.0), (39, 5, 0.3), (73, 20, 0.3)):
        patient = np.repeat(np.arange(patients), images)
        y, hits = patient % 2, defaultdict(list)
        g = rng(seed, "use", patients, images)
        sens, spec = stats.norm.cdf(1.3), stats.norm.cdf(1.6)
        true = {"LR+": sens / (1 - spec), "LR-": (1 - sens) / spec,
                "PPV": 0.02 * sens / (0.02 * sens + 0.98 * (1 - spec)),
                "NPV": 0.98 * spec / (0.98 * spec + 0.02 * (1 - sens))}
        for _ in range(studies):
            z = np.where(y, 1.3, -1.6) + np.sqrt(icc) * g.standard_normal(patients)[patient] \
                + np.sqrt(1 - icc) * g.standard_normal(len(y))
            m = metric_intervals(y, z > 0, None, patient if images > 1 else None)
            ratios = likelihood_ratios(m["sensitivity"], m["specificity"])
            for name, e in zip(true, (*ratios, *predictive_values(*ratios, 0.02))):
                hits[name].append(e.low <= true[name] <= e.high)
        for name in true:
            yield row("use", len(y), images > 1, "MOVER-R", f"{name}, {patients} patients", hits[name],
                      FEW if patients < 40 else COVER)


def sites(studies, seed):
    "Three sites without and with a trace in the features: the drop's interval, and how often the index speaks."
    settings = make_settings(n_splits=0, cv_repeats=3, classifiers=["svm"], positive="abnormal")
    for trace in (0.0, 1.0):
        drops, ends, spoken = [], [], []
        for i in range(studies):
            g = rng(seed, "sites", trace, i)
            X, table, _ = made_up(g, 60, 5, 0.0)
            site = np.array(["A", "B", "C"])[np.arange(60) // 2 % 3].repeat(5)
            X = X + trace * g.normal(size=(3, X.shape[1]))[np.unique(site, return_inverse=True)[1]].astype(np.float32)
            table = table.assign(site=site)
            predictions = pd.concat([evaluate(X, table, settings), leave_one_site_out(X, table, settings)[0]])
            together = site_rows(predictions, table.set_index("file_name").site, "abnormal")[1]["difference"]
            drops.append(together["value"])
            ends.append(together["ci"])
            y = (table.label == "abnormal").to_numpy(int)
            spoken.append(site_index(X, y, site.astype(object), table.group.to_numpy(object), i)["p"] <= 0.05)
        true, ends = np.mean(drops), np.array(ends)
        if not trace:
            yield row("sites", 300, True, "svm, 5 x 3 folds", "interval of the drop, no trace",
                      (ends[:, 0] <= true) & (true <= ends[:, 1]), COVER, ends[:, 1] - ends[:, 0])
        yield row("sites", 300, True, "neighbours", f"index speaks, {'a' if trace else 'no'} trace", spoken,
                  (0.9, 1.0) if trace else (0.0, 0.08))


STUDIES = {"subgroups": subgroups, "subgroups_cv": cross_validated_groups, "use": use, "sites": sites}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300, help="simulated studies a row")
    parser.add_argument("--only", default=",".join(STUDIES), help="studies, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    args = parse(parser, arguments, studies=4)
    for name in args.only.split(","):
        for r in STUDIES[name](args.studies, args.seed):
            print(f"{r['study']:14}{r['n']:5} {r['method']:18}{r['what']:52}{100 * r['rate']:6.1f} "
                  f"{'' if r['ok'] else 'outside '}{100 * r['low']:.0f}-{100 * r['high']:.0f}", flush=True)


if __name__ == "__main__": main()
