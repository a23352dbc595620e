"""Do the statistics keep their promises? Studies are simulated with a known truth; intervals should hold it, tests
should rarely cry wolf.

    python benchmarks/coverage.py                                    every study, 2,000 simulated studies a row (some
      minutes on one core)
    python benchmarks/coverage.py --only intervals,tests --studies 500
    python benchmarks/coverage.py --json benchmarks/results/coverage.json

A study is a function that yields rows; `@study("name")` adds one. A row says what was counted, the rate, and the band
the rate should lie in: 95 % intervals should hold the truth in 93 to 98 % of studies, tests at 5 % should reject a
true null in 3 to 6 %. Cross-validations of the four classifiers of a report have a program of their own:
coverage_cv.py.
"""
from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, stats
from sklearn.linear_model import LogisticRegression

from audit_studies import STUDIES as AUDIT_STUDIES
from group_studies import STUDIES as GROUP_STUDIES
from patient_studies import STUDIES as PATIENT_STUDIES
from scrutiny_studies import STUDIES as SCRUTINY_STUDIES

from leuknb.classification.estimators import class_scores, make_classifier, study_classifier
from leuknb.classification.fitting import run_folds
from leuknb.evaluation import calibration, comparison, intervals, metrics, paired_tests, power, thresholds
from leuknb.core import rng

from machine import keep_rows, parse

STUDIES = {}
COVER, FEW, REJECT = (0.93, 0.98), (0.93, 0.995), (0.03, 0.06)  # FEW: under 20 patients, or 10 of the rarer class
FOLD_DESIGNS = ((39, 5, 0.3, 0.5), (195, 1, 0.0, 0.5), (39, 5, 0.3, 0.3))  # patients, images of each, ICC, abnormal
SIZES = (39, 195, 1000)
ICC = 0.3  # share of the variance of scores that the images of one patient have in common
SHIFT = 2.4  # distance of the classes in standard deviations: 88.5 % accuracy, AUROC 0.955
# where it differs from study to study: 80 to 94 % accuracy. Counts are discrete, so a single truth can be lucky or
# unlucky
SHIFTS = (1.7, 3.1)
MEASURED = [m for m in metrics.METRICS if m not in ("mcc", "auprc")]  # the others have no interval


def study(name):
    "Register a function (studies, seed) that yields rows."
    def add(f):
        STUDIES[name] = f
        return f
    return add


def row(name, n, grouped, method, what, hits, band, width=None):
    "One line of the table from the outcomes (1 or 0, NaN left out) of the simulated studies."
    hits = np.asarray(hits, float)
    hits = hits[~np.isnan(hits)]
    rate = float(hits.mean())
    return {"study": name, "n": n, "grouped": grouped, "method": method, "what": what, "rate": round(rate, 4),
            "studies": len(hits),
            "low": band[0], "high": band[1], "ok": bool(band[0] <= rate <= band[1]),
            "width": None if width is None else round(float(np.nanmean(width)), 3)}


def patients(n, grouped):
    "Group of each image: 3 to 7 images a patient, 5 in the mean, or one."
    if not grouped: return np.arange(n)
    sizes = np.resize([3, 4, 5, 6, 7], n)
    return np.repeat(np.arange(n), sizes)[:n]


def draw_classes(generator, groups):
    "Each patient is abnormal by the toss of a coin; tossed again until there are two patients of each class."
    while True:
        abnormal = generator.integers(2, size=groups.max() + 1)
        if 2 <= abnormal.sum() <= len(abnormal) - 2: return abnormal[groups]


def draw_scores(generator, y, groups, shift=SHIFT):
    "Scores of unit variance within the classes; images of a patient share a part."
    own = generator.standard_normal(len(y))
    if groups.max() + 1 == len(y): return shift * y + own
    return shift * y + np.sqrt(ICC) * generator.standard_normal(groups.max() + 1)[groups] + np.sqrt(1 - ICC) * own


def holds(interval, truth):
    return truth - 1e-12 <= interval.high and interval.low <= truth + 1e-12 if np.isfinite(interval.low) else np.nan


@study("intervals")
def interval_coverage(studies, seed):
    "Every metric of a fixed classifier on n images, by every method."
    for n in SIZES:
        for grouped in (False, True):
            groups, generator = patients(n, grouped), rng(seed, "intervals", n, grouped)
            hits, widths = defaultdict(list), defaultdict(list)
            for _ in range(studies):
                shift, y = generator.uniform(*SHIFTS), draw_classes(generator, groups)
                truth = dict.fromkeys(MEASURED,
                                      stats.norm.cdf(shift / 2)) | {"auroc": stats.norm.cdf(shift / np.sqrt(2))}
                score = draw_scores(generator, y, groups, shift)
                said, g = score > shift / 2, groups if grouped else None
                found = {"score": intervals.metric_intervals(y, said, score, g, "score")}
                if not grouped:
                    found["exact"] = {m: v for m, v in intervals.metric_intervals(y, said, score).items()
                                      if v.method == "exact"}
                found["delong logit"] = {"auroc": intervals.delong_interval(y, score, g)}
                found["delong"] = {"auroc": intervals.delong_interval(y, score, g, transform="none")}
                for method, values in found.items():
                    for m in set(values) & set(truth):
                        hits[method, m].append(holds(values[m], truth[m]))
                        widths[method, m].append(values[m].high - values[m].low)
            for method, m in sorted(hits):
                yield row("intervals", n, grouped, method, m, hits[method, m], FEW if grouped and n == 39 else COVER,
                          widths[method, m])


# positive and negative patients, images of each, correlations within a patient
RARE = [(8, 392, 1, 0.0), (4, 196, 1, 0.0), (10, 90, 1, 0.0),
        *((*sizes, icc) for sizes in ((3, 37, 5), (5, 34, 5), (7, 66, 20)) for icc in (0.0, 0.3, 0.6))]


@study("few_positives")
def few_positives(studies, seed):
    "Sensitivity and AUROC of a fixed classifier where few patients are positive."
    for n1, n0, images, icc in RARE:
        generator, patient = rng(seed, "few positives", n1, n0, images, icc), np.repeat(np.arange(n1 + n0), images)
        y, hits, widths = (patient < n1).astype(int), defaultdict(list), defaultdict(list)
        for _ in range(studies):
            shift = generator.uniform(1.2, 2.4)
            score = (shift * y + np.sqrt(icc) * generator.standard_normal(n1 + n0)[patient]
                     + np.sqrt(1 - icc) * generator.standard_normal(len(y)))
            found = intervals.metric_intervals(y, score > shift / 2, score, patient if images > 1 else None, "score")
            for m, truth in (("sensitivity", stats.norm.cdf(shift / 2)), ("auroc", stats.norm.cdf(shift / np.sqrt(2)))):
                hits[m].append(holds(found[m], truth))
                widths[m].append(found[m].high - found[m].low)
        design = f"{n1} of {n1 + n0}" + (f" patients, {images} images each" if images > 1 else "")
        for m in hits:
            yield row("few_positives", len(y), images > 1, design, m, hits[m], FEW if n1 < 10 else COVER,
                      widths[m]) | {"icc": icc}


def fold_masks(generator, y, groups, folds=5, repeats=10):
    "[repeats * folds, n] test masks: patients dealt to the folds within each class."
    first = np.unique(groups, return_index=True)[1]
    masks = []
    for _ in range(repeats):
        fold = np.empty(len(first), int)
        order = generator.permutation(len(first))
        order = order[np.argsort(y[first][order], kind="stable")]
        fold[order] = np.arange(len(order)) % folds
        masks += [fold[groups] == f for f in range(folds)]
    return np.array(masks)


@study("tests")
def tests(studies, seed):
    """Two models that are equally good: how often a paired test at 5 % says they are not; and whether intervals hold
    a true difference, or none.

    An exact test stays below 5 % by construction, so it is judged from below where 20 units or more differ.
    """
    for n in SIZES:
        for grouped in (False, True):
            groups, generator = patients(n, grouped), rng(seed, "tests", n, grouped)
            g = groups if grouped else None
            low, differ, covered, widths = defaultdict(list), [], defaultdict(list), defaultdict(list)
            for i in range(studies):
                y = draw_classes(generator, groups)
                common = draw_scores(generator, 0 * y, groups)
                shift = generator.uniform(*SHIFTS)
                three = [shift * y + np.sqrt(0.5) * (common + draw_scores(generator, 0 * y, groups)) for _ in range(3)]
                a, b, c = ((s > shift / 2) == (y == 1) for s in three)
                only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
                lead = np.round(np.bincount(groups, a.astype(float) - b)).astype(int)
                differ.append(np.count_nonzero(lead))
                low["mcnemar_exact"].append(paired_tests.mcnemar_exact(only_a, only_b))
                low["mcnemar_exact mid-p"].append(paired_tests.mcnemar_exact(only_a, only_b, mid_p=True))
                if grouped:
                    low["sign_flip_exact"].append(paired_tests.sign_flip_exact(lead))
                    low["sign_flip_exact mid-p"].append(paired_tests.sign_flip_exact(lead, mid_p=True))
                low["delong_test"].append(paired_tests.delong_test(y, three[0], three[1], g)["p"])
                low["cochran_q"].append(paired_tests.cochran_q(np.column_stack([a, b, c]), g, resamples=499, seed=i)[1])
                worse = (three[1] > shift / 2 + 0.5) == (y == 1)
                truth = stats.norm.cdf(shift / 2) - (stats.norm.cdf(shift / 2 + 0.5)
                                                     + stats.norm.cdf(shift / 2 - 0.5)) / 2
                for what, other, true in (("difference", worse, truth), ("no difference", b, 0)):
                    d = paired_tests.paired_difference(a, other, g)
                    covered[what].append(holds(d, true))
                    widths[what].append(d.high - d.low)
            yield from _rejections(n, grouped, low, np.array(differ), groups.max() < 19)
            for what in covered:
                yield row("tests", n, grouped, "paired_difference", what, covered[what],
                          FEW if groups.max() < 19 else COVER, widths[what])


def _rejections(n, grouped, low, differ, few):
    "Rows of the p-values of a true null; of exact tests and few units judged from below only where enough differ."
    for method, p in low.items():
        rejected, exact = np.array(p) <= 0.05, method.endswith("_exact")
        if grouped and method.startswith("mcnemar"): continue  # counts images: not the test of patients
        yield row("tests", n, grouped, method, "rejects a true null", rejected,
                  (0, 0.06) if exact or few else REJECT)
        if exact and (differ >= 20).sum() >= 100:
            yield row("tests", n, grouped, method, "rejects, 20 or more differ", rejected[differ >= 20], REJECT)


def compared_folds(generator, classifier, groups, icc, share, shifts, repeats=5):
    """One classifier on two sets of features, cross-validated on the same 5 folds: the row of `compare_models`.

    `share` of the patients are abnormal; the classes lie `shifts` apart along the first feature of each set.
    """
    n_patients = groups.max() + 1
    y = (generator.permutation(n_patients) < round(share * n_patients)).astype(int)[groups]
    masks, tables = fold_masks(generator, y, groups, 5, repeats), []
    splits = [(np.flatnonzero(~m), np.flatnonzero(m)) for m in masks]
    for name, shift in zip("ab", shifts):
        x = np.sqrt(1 - icc) * generator.standard_normal((len(y), 5))
        x += np.sqrt(icc) * generator.standard_normal((n_patients, 5))[groups]
        x[:, 0] += shift * y
        found = run_folds(x, y, splits, [classifier], scheme=name, n_classes=2, n_jobs=1)
        tables += [pd.DataFrame({"file_name": splits[s][1], "label": y[splits[s][1]].astype(str), "model": name,
                                 "group": groups[splits[s][1]].astype(str), "scheme": "cv", "split": s, "score": 0.0,
                                 "predicted": called.astype(str)}) for s, _, _, called in found]
    return comparison.compare_models(pd.concat(tables, ignore_index=True), "cv")[0]


@study("corrected_t")
def corrected_t(studies, seed):
    """The report's classifiers on two independent sets of features, equally informative or not, compared as a report
    does; the true difference is the mean of the estimates. A tenth of the studies, which are fits.
    """
    for name, params in (("svm", {}), ("knn", {}), ("tree", {}), ("ensemble", {"n_estimators": 20})):
        for n_patients, size, icc, share in FOLD_DESIGNS:
            groups = np.repeat(np.arange(n_patients), size)
            classifier = study_classifier(name, len(groups), params)
            for what, shifts in (("no difference", (1.8, 1.8)), ("difference", (2.2, 1.4))):
                generator = rng(seed, "corrected_t", name, n_patients, size, share, what)
                found = [compared_folds(generator, classifier, groups, icc, share, shifts)
                         for _ in range(max(studies // 10, 20))]
                values = [c["difference"]["value"] for c in found]
                truth = 0.0 if what == "no difference" else np.mean(values)
                ends = [intervals.Estimate(v, *c["difference"]["ci"]) for v, c in zip(values, found)]
                how = f"{name}, {share:.0%} abnormal"
                yield row("corrected_t", len(groups), size > 1, how, f"interval holds: {what}",
                          [holds(e, truth) for e in ends], COVER, [e.high - e.low for e in ends])
                if what == "no difference":
                    yield row("corrected_t", len(groups), size > 1, how, "rejects a true null",
                              [c["p"] <= 0.05 for c in found], (0, 0.06))


@study("power")
def power_told(studies, seed):
    """The power told for a holdout, from its patients, discordance and correlation, beside how often its test then
    finds a difference: alone, and at the level of the first of six pairs. The two models err on patients of their own.
    """
    for n_patients, size, right in ((8, 5, (0.97, 0.59)), (39, 5, (0.95, 0.8)), (195, 1, (0.95, 0.86))):
        groups = np.repeat(np.arange(n_patients), size)
        for icc in (0.0, 0.3, 0.6) if size > 1 else (0.0,):
            generator, leads = rng(seed, "power", n_patients, icc), []
            for _ in range(studies):
                a, b = (np.sqrt(icc) * generator.standard_normal(n_patients)[groups]
                        + np.sqrt(1 - icc) * generator.standard_normal(len(groups)) < stats.norm.ppf(p) for p in right)
                leads.append(a.astype(float) - b)
            leads = np.column_stack(leads)
            totals = np.round([np.bincount(groups, lead) for lead in leads.T]).astype(int)
            p = np.array([paired_tests.sign_flip_exact(t) for t in totals])
            alike, apart = power.lead_correlation(leads, groups), float(np.abs(leads).mean())
            told = power.paired_power(np.full(n_patients, size), right[0] - right[1], apart, alike, (0.05, 0.05 / 6))
            for level, what, t in zip((0.05, 0.05 / 6), ("alone", "first of six pairs"), told):
                yield row("power", len(groups), size > 1, f"ICC {icc}, told {100 * t:.0f} %", f"found, {what}",
                          p <= level, (t - 0.05, t + 0.05))


DESIGNS = ((39, 5, (0, 0.3, 0.6)), (73, 20, (0, 0.3, 0.6)), (195, 1, (0,)))  # patients, images of each, ICCs
PROMISED, FRESH = 0.95, 4000  # sensitivity; new images of each class for the truth


def threshold_study(generator, model, people, each, icc, fresh):
    """One cross-validated study of five features: the operating point, and the true sensitivity and specificity of
    the folds' models at the folds' thresholds; None where there is no threshold.
    """
    groups = np.repeat(np.arange(people), each)
    y = generator.permutation(np.arange(people) % 2)[groups]
    x = np.sqrt(icc) * generator.standard_normal((people, 5))[groups]
    x += np.sqrt(1 - icc) * generator.standard_normal(x.shape)
    x[:, 0] += 2.4 * y
    fold = fold_masks(generator, y, groups, repeats=1).argmax(0)
    score, new, g = np.empty(len(y)), [], groups if each > 1 else None
    for f in range(5):
        fitted = make_classifier(model).fit(x[fold != f], y[fold != f])
        score[fold == f] = class_scores(fitted, x[fold == f])[:, 1]
        new.append(class_scores(fitted, fresh)[:, 1].reshape(2, -1))
    found = thresholds.operating_point(y, score, fold, PROMISED, g)
    if found.why: return None
    cuts = [thresholds.choose_threshold(y[fold != f], score[fold != f], PROMISED, None if g is None else g[fold != f])
            .value for f in range(5)]
    return found, np.mean([n[1] >= c for n, c in zip(new, cuts)]), np.mean([n[0] < c for n, c in zip(new, cuts)])


@study("operating")
def operating(studies, seed):
    """Thresholds that promise 95 % of new patients' images: how many they find in truth, and whether the intervals of
    both rates hold what the thresholds of the study reach.
    """
    fresh = rng(seed, "operating, new images").standard_normal((2 * FRESH, 5))
    fresh[FRESH:, 0] += 2.4
    for people, each, iccs in DESIGNS:
        for model, icc in ((m, i) for m in ("svm", "ensemble", "knn", "tree") for i in iccs):
            times = studies if model == "svm" else studies // 5
            generator = rng(seed, "operating", model, people, each, icc)
            done = [threshold_study(generator, model, people, each, icc, fresh) for _ in range(times)]
            kept, n = [d for d in done if d], people * each
            how = f"{model}, ICC {icc}"
            yield row("operating", n, each > 1, how, "allows a threshold", [d is not None for d in done], (0, 1))
            if len(kept) < 20: continue
            yield row("operating", n, each > 1, how, "true sensitivity", [d[1] for d in kept], (0.945, 0.97))
            for m, at in (("sensitivity", 1), ("specificity", 2)):
                found = [getattr(d[0], m) for d in kept]
                yield row("operating", n, each > 1, how, f"interval of the {m}",
                          [holds(e, d[at]) for e, d in zip(found, kept)], (0.93, 0.98), [e.high - e.low for e in found])


GRID = np.linspace(-6, 6, 601)  # scores over which the truth of a calibration is summed


def true_calibration(calibrators, shift):
    "Brier score, calibration error, slope and intercept of the calibrators of all folds in new patients."
    density = np.array([stats.norm.pdf(GRID - s) for s in (-shift / 2, shift / 2)])
    weight, true = density.sum(0) / density.sum(), density[1] / density.sum(0)
    p = np.array([c(GRID) for c in calibrators])
    # as a set of images: each score twice, abnormal and normal, by how often it is either
    y, p2 = np.repeat([1, 0], p.size), np.tile(p.ravel(), 2)
    times = np.concatenate([np.tile(weight * true, len(p)), np.tile(weight * (1 - true), len(p))]) / len(p)
    logit, fit = np.log(p2 / (1 - p2)), LogisticRegression(C=np.inf, tol=1e-8, max_iter=500)
    slope = fit.fit(logit[:, None], y, sample_weight=1e4 * times).coef_[0, 0]
    at = optimize.brentq(lambda a: times @ (y - stats.logistic.cdf(a + logit)), -5, 5)
    return {"brier": times @ (p2 - y) ** 2, "ece": (weight * np.abs(p - true)).sum() / len(p), "slope": slope,
            "intercept": at}


def resampled_ece(generator, y, p, groups, each):
    "Ends of the percentile interval of the calibration error over patients, and those mirrored about the estimate."
    picks = [(generator.integers(groups.max() + 1, size=groups.max() + 1)[:, None] * each + np.arange(each)).ravel()
             for _ in range(200)]
    low, high = np.quantile([calibration.ece(y[i], p[i]) for i in picks], [0.025, 0.975])
    seen = calibration.ece(y, p)
    return {"percentile": (low, high), "mirrored": (2 * seen - high, 2 * seen - low)}


@study("calibration")
def calibrated(studies, seed):
    "Intervals of Brier score, slope and intercept, and bootstrap intervals of the calibration error, which fail."
    for people, each, iccs in DESIGNS[::2]:
        for icc in iccs:
            generator, groups = rng(seed, "calibration", people, icc), np.repeat(np.arange(people), each)
            hits, widths = defaultdict(list), defaultdict(list)
            for i in range(studies // 5):
                y = generator.permutation(np.arange(people) % 2)[groups]
                score = 2.4 * (y - 0.5) + np.sqrt(icc) * generator.standard_normal(people)[groups]
                score += np.sqrt(1 - icc) * generator.standard_normal(len(y))
                fold = fold_masks(generator, y, groups, repeats=1).argmax(0)
                p = calibration.cross_calibrated(y, score, fold)
                truth = true_calibration([calibration.fit_calibrator(score[fold != f], y[fold != f])
                                          for f in range(5)], 2.4)
                found = calibration.calibration_metrics(y, p, groups if each > 1 else None)
                for m in ("brier", "slope", "intercept"):
                    hits["interval", m].append(holds(found[m], truth[m]))
                    widths["interval", m].append(found[m].high - found[m].low)
                if i < 100:
                    for how, (low, high) in resampled_ece(generator, y, p, groups, each).items():
                        hits[f"bootstrap, {how}", "ece"].append(low <= truth["ece"] <= high)
                        widths[f"bootstrap, {how}", "ece"].append(high - low)
            for how, m in hits:
                yield row("calibration", people * each, each > 1, f"{how}, ICC {icc}", m, hits[how, m], COVER,
                          widths[how, m])


STUDIES |= AUDIT_STUDIES  # planted copies and shortcuts, clean sets
STUDIES |= GROUP_STUDIES  # subgroups, sites, what a call is worth
STUDIES |= PATIENT_STUDIES  # patients judged by their images, shares of positive cells
STUDIES |= SCRUTINY_STUDIES  # wrong labels, the forecast of a learning curve


def line(r):
    "One row as text."
    width = "" if r["width"] is None else f"  width {r['width']:.3f}"
    outside = "" if r["ok"] else f"  outside {100 * r['low']:.0f} to {100 * r['high']:.0f} %"
    where = "patients" if r["grouped"] else "apart"
    return (f"{r['study']:17}{r['n']:5} {where:9}{r['method']:25}{r['what']:34}{100 * r['rate']:6.1f} "
            f"%{width:15}{outside}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"studies, separated by commas: {', '.join(STUDIES)}")
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies for each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the rows there; rows of studies that were not run stay")
    options = parse(parser, arguments, studies=50)
    names = options.only.split(",") if options.only else list(STUDIES)
    if unknown := set(names) - set(STUDIES):
        parser.error(f"unknown studies {', '.join(sorted(unknown))}: use {', '.join(STUDIES)}")
    rows = []
    for name in names:
        start = time.perf_counter()
        for r in STUDIES[name](options.studies, options.seed):
            rows.append(r)
            print(line(r), flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    if options.json: keep_rows(Path(options.json), names, rows)
    return rows


if __name__ == "__main__": main()
