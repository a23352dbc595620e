"""How benchmarks judge features: one classifier over given splits."""

import numpy as np
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

FOLDS = 5


def scored(X, y, classifier, splits):
    "Yield test images, their scores and what they are called, of each split; a classifier is a name and parameters."
    from leuknb.classification.estimators import study_classifier
    from leuknb.classification.fitting import run_folds

    name, params = classifier
    for s, _, scores, called in run_folds(X, y, splits, [study_classifier(name, len(y), params)], n_classes=2):
        yield splits[s][1], scores[:, 1], called


def right(X, y, classifier, splits) -> np.ndarray:
    "The accuracy of each split, in percent."
    return np.array([100 * np.mean(called == y[test]) for test, _, called in scored(X, y, classifier, splits)])


def cross_validated(X, y, groups, classifier, repeats: int) -> tuple[float, float]:
    "AUROC, and balanced accuracy in percent: means over repeats."
    from leuknb.evaluation.splits import cv_splits

    found = np.zeros((repeats, 2, len(y)))
    for i, (test, s, c) in enumerate(scored(X, y, classifier, cv_splits(y, groups, FOLDS, repeats))):
        found[i // FOLDS][:, test] = s, c
    return (float(np.mean([roc_auc_score(y, s) for s, _ in found])),
            100 * float(np.mean([balanced_accuracy_score(y, c) for _, c in found])))
