"""Do numbers of patients hold? Studies for benchmarks/coverage.py: `STUDIES` maps a name to a function (studies,
seed) that yields rows.

patients: intervals of patients judged by a rule that others fixed; the truth is what the cross-validation comes to in
the mean over the studies. cell_shares: bias of the share of positive cells, as called and corrected, and how often the
interval of a patient's share and that of the side of the threshold hold.
"""
from __future__ import annotations

import numpy as np

from leuknb.classification.estimators import study_classifier
from leuknb.classification.fitting import run_folds
from leuknb.core import rng
from leuknb.evaluation.cell_shares import bland_altman, patient_shares, side_right
from leuknb.evaluation.patients import judge_patients, METRICS_OF_PATIENTS, patient_metrics, PatientImages
from leuknb.evaluation.splits import cv_splits

FOLDS, REPEATS, WIDTH = 5, 5, 6
COVER, FEW = (0.93, 0.98), (0.93, 0.995)  # FEW: under 20 patients, or 10 of the rarer class
# patients, images of each, share of positive patients, correlation between images of one patient
DESIGNS = ((39, 5, 0.5, 0.3), (39, 5, 0.5, 0.6), (73, 20, 0.5, 0.6), (73, 20, 0.2, 0.6), (16, 5, 0.5, 0.6))


def cross_validated(x, y, patient, seed, repeats=REPEATS, name="svm") -> PatientImages:
    "The images of patients as a classifier answered them."
    splits = cv_splits(y, patient, FOLDS, repeats, seed)
    called, score, fold = (np.zeros((len(y), repeats)) for _ in range(3))
    for s, _, scores, predicted in run_folds(x, y, splits, [study_classifier(name, len(y))], seed, "cv", n_classes=2,
                                             n_jobs=1):
        at = splits[s][1], s // FOLDS
        called[at], score[at], fold[at] = predicted, scores[:, 1], s
    names = np.array([f"{p:03d}" for p in np.unique(patient)], object)
    return PatientImages(names, names, patient, np.arange(len(y)).astype(str), y, called.astype(int), score,
                         fold.astype(int))


def features(generator, y, patient, icc, apart=1.0):
    "Features [n, WIDTH]: the first three lean towards the class, all have a part that a patient's images share."
    shared = np.sqrt(icc) * generator.normal(size=(patient.max() + 1, WIDTH))[patient]
    x = shared + np.sqrt(1 - icc) * generator.normal(size=(len(y), WIDTH))
    x[:, :3] += apart * y[:, None]
    return x.astype(np.float32)


def line(study, n, method, what, values, truth, band, widths=None) -> dict:
    "One row: how often intervals [studies, (low, high)] held the truth."
    low, high = np.asarray(values, float).T
    known = ~np.isnan(low)
    hits = ((low <= truth + 1e-12) & (np.asarray(truth) - 1e-12 <= high))[known]
    return {"study": study, "n": n, "grouped": True, "method": method, "what": what,
            "rate": round(float(hits.mean()), 4), "studies": int(known.sum()), "low": band[0], "high": band[1],
            "ok": bool(band[0] <= hits.mean() <= band[1]), "width": round(float((high - low)[known].mean()), 3)}


def patient_coverage(studies, seed):
    "Intervals of patients judged by rule; a tenth of the studies, which are fits."
    for n, size, share, icc in DESIGNS:
        generator, patient, found = rng(seed, "patients", n, size, share, icc), np.repeat(np.arange(n), size), []
        for k in range(max(studies // 10, 5)):
            y = (generator.permutation(n) < round(share * n)).astype(int)[patient]
            images = cross_validated(features(generator, y, patient, icc), y, patient, k)
            found.append(patient_metrics(judge_patients(images)))
        few = n < 20 or round(share * n) < 10
        for m in METRICS_OF_PATIENTS:
            value = np.array([f[m].value for f in found])
            yield line("patients", n * size, f"{n} patients of {size}, {share:.0%} positive, ICC {icc}", m,
                       [(f[m].low, f[m].high) for f in found], value.mean(), FEW if few else COVER)


SHARES = ((40, 20), (73, 40))  # patients, cells of each


def share_bias(studies, seed):
    """Shares of positive cells: bias as called and corrected, which should be at most two points; how often intervals
    of a patient's share hold; a tenth of the studies, which are fits.
    """
    for n, size in SHARES:
        generator, patient, found = rng(seed, "cell shares", n, size), np.repeat(np.arange(n), size), []
        for k in range(max(studies // 10, 5)):
            true = generator.beta(1, 3, n)
            y = (generator.random(n * size) < true[patient]).astype(int)
            shares = patient_shares(cross_validated(features(generator, y, patient, 0.1), y, patient, k))
            found.append((bland_altman(shares["plain"] - shares["true"])["bias"].value,
                          bland_altman(shares["corrected"] - shares["true"])["bias"].value,
                          shares["true"].between(shares["low"], shares["high"]).mean(),
                          *side_right(shares["plain"], shares["true"])[:3],
                          *side_right(shares["corrected"], shares["true"])[:3]))
        t, design = np.array(found), f"{n} patients of {size}"
        for what, b in (("bias as called", t[:, 0].mean()), ("bias corrected", t[:, 1].mean())):
            band = (-0.02, 0.02) if what == "bias corrected" else (-1.0, 1.0)
            yield {"study": "cell_shares", "n": n * size, "grouped": True, "method": design, "what": what,
                   "rate": round(float(b), 4), "studies": len(t), "low": band[0], "high": band[1],
                   "ok": bool(band[0] <= b <= band[1]), "width": None}
        yield {"study": "cell_shares", "n": n * size, "grouped": True, "method": design, "what": "patient's share",
               "rate": round(float(t[:, 2].mean()), 4), "studies": len(t), "low": COVER[0], "high": COVER[1],
               "ok": bool(COVER[0] <= t[:, 2].mean() <= COVER[1]), "width": None}
        for what, at in (("side as called", 3), ("side corrected", 6)):
            yield line("cell_shares", n * size, design, what, t[:, at + 1:at + 3], t[:, at].mean(), (0.93, 0.995))


STUDIES = {"patients": patient_coverage, "cell_shares": share_bias}
