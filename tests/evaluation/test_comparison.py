"""Two models on the same images: what is said of them where there is nothing, or everything, between them; words that
follow from the numbers; and the power of the test that is used.
"""
import math

import numpy as np
import pandas as pd
import pytest

from leuknb.evaluation import comparison, paired_tests, power
from leuknb.core import InputError


def table(label, called, groups=None, scheme="holdout", split=0):
    "A predictions table from {model: [n] or [n, repeats] classes}; split: [n, repeats] or a number."
    label, frames = np.asarray(label).astype(str), []
    for model, said in called.items():
        said = np.asarray(said).astype(str).reshape(len(label), -1)
        where = np.broadcast_to(np.asarray(split).reshape(-1, 1) if np.ndim(split) == 1 else split, said.shape)
        for k in range(said.shape[1]):
            frames.append(pd.DataFrame({"file_name": [f"{i:04}.png" for i in range(len(label))], "label": label,
                                        "group": "" if groups is None else groups, "model": model, "scheme": scheme,
                                        "split": where[:, k], "score": 0.0, "predicted": said[:, k]}))
    return pd.concat(frames, ignore_index=True)


def folds_of(codes, folds=5, repeats=4):
    "[n, repeats] numbers of folds that keep groups apart."
    draw = np.random.default_rng(0)
    return np.column_stack([(draw.permutation(codes.max() + 1) % folds + k * folds)[codes] for k in range(repeats)])


PATIENT = np.repeat(np.arange(39), 5)
LABEL = np.where(PATIENT % 2, "abnormal", "normal")
WRONG = np.where(LABEL == "abnormal", "normal", "abnormal")
EXTREMES = {"identical": (LABEL, LABEL), "never alike": (LABEL, WRONG), "constant": (LABEL, np.full(195, "normal")),
            "both constant": (np.full(195, "normal"), np.full(195, "abnormal")), "both wrong": (WRONG, WRONG)}


@pytest.mark.parametrize("grouped", (False, True))
@pytest.mark.parametrize("scheme", ("holdout", "cv"))
@pytest.mark.parametrize("case", EXTREMES)
def test_no_p_of_zero_and_no_interval_without_width(case, scheme, grouped):
    a, b = EXTREMES[case]
    split = folds_of(PATIENT) if scheme == "cv" else 0
    said = {m: np.repeat(np.asarray(v)[:, None], 4, 1) if scheme == "cv" else v for m, v in (("svm", a), ("tree", b))}
    groups = [f"p{i}" for i in PATIENT] if grouped else None
    found = comparison.compare_models(table(LABEL, said, groups, scheme, split), scheme)[0]
    low, high = found["difference"]["ci"]
    assert 0 < found["p"] <= 1 and -1 <= low <= found["difference"]["value"] <= high <= 1
    assert high - low > (0.08 if grouped else 0.01)
    if case in ("identical", "both wrong"): assert found["p"] == 1 and low < 0 < high
    if case == "never alike": assert low > 0.5 and high == 1 and found["p"] < 1e-3


@pytest.mark.parametrize("grouped", (False, True))
def test_equal_scores_and_perfect_against_reversed_ones_have_an_interval(grouped):
    y, score = (LABEL == "abnormal").astype(int), np.random.default_rng(0).normal(size=195)
    groups = PATIENT if grouped else None
    same = paired_tests.delong_test(y, score, score, groups)
    reversed_ = paired_tests.delong_test(y, y, -y, groups)
    assert same["p"] == 1 and same["difference"].low < -0.03 < 0.03 < same["difference"].high
    assert 0 < reversed_["p"] < 1e-3 and reversed_["difference"].high == 1 and reversed_["difference"].low < 0.96
    assert math.isnan(paired_tests.delong_test(np.ones(195), score, score, groups)["p"])


def test_folds_that_agree_say_what_so_many_patients_can():
    found = {g: paired_tests.corrected_resampled_ttest([0.5] * 10, 160, 40, g) for g in (10, 40, 200)}
    widths = [f["difference"].high - f["difference"].low for f in found.values()]
    assert widths == sorted(widths, reverse=True) and all(0 < f["p"] for f in found.values())
    assert found[10]["p"] > found[40]["p"] > found[200]["p"]
    assert math.isnan(paired_tests.corrected_resampled_ttest([0.5], 160, 40)["p"])


def test_one_patient_with_half_the_images_counts_as_one():
    groups = np.r_[np.zeros(50, int), np.arange(1, 51)]
    right, few = np.ones(100, bool), np.arange(4)
    twins = paired_tests.paired_difference(right, right, groups)
    assert paired_tests.effective_units(np.ones(100), groups) == pytest.approx(3.92, abs=0.01)
    assert twins.high - twins.low > 0.5
    with pytest.raises(InputError, match="discordant"): paired_tests.tango_interval(3, 3, 5)
    assert paired_tests.paired_difference(right[few], ~right[few], np.zeros(4))[1:3] == (-1, 1)


def test_a_cross_validation_is_compared_in_balanced_accuracy_also_where_a_fold_lacks_a_class():
    draw = np.random.default_rng(1)
    label = np.r_[np.full(3, "blast"), np.full(37, "band"), np.full(60, "normal")]
    split = np.sort(folds_of(np.arange(100), repeats=3), 1)
    said = {m: np.where(draw.random((100, 3)) < p, label[:, None], "none") for m, p in (("svm", 0.9), ("tree", 0.6))}
    found = comparison.compare_models(table(label, said, None, "cv", split), "cv")[0]
    recall = {m: np.mean([(v[label == c] == c).mean() for c in set(label)]) for m, v in said.items()}
    assert found["metric"] == "balanced_accuracy" and found["rarest"] == 3
    assert found["difference"]["value"] == pytest.approx(recall["svm"] - recall["tree"])
    assert found["p"] >= 0.25 and "only 3 images of the rarest class" in comparison.sentence(found)
    assert comparison.sentence(found).split(";")[0].count("points of balanced accuracy") == 1


def test_balanced_accuracy_is_accuracy_where_classes_are_of_one_size():
    label = np.tile(["a", "b"], 50)
    assert (comparison.class_weights(label) == 1).all()
    with_folds = np.arange(100) // 20
    said = {m: np.where(np.random.default_rng(k).random(100) < 0.8, label, "c") for k, m in enumerate(("svm", "knn"))}
    a, b = (comparison.aligned(table(label, said, None, "cv", with_folds), m, "cv") for m in said)
    lead = (said["svm"] == label).astype(float) - (said["knn"] == label)
    np.testing.assert_allclose(comparison.fold_differences(a, b), lead.reshape(5, 20).mean(1))


def wrong_on(patients):
    "A model that is right but for one image of each of some patients."
    return np.where(np.isin(np.arange(195), 5 * np.arange(patients)), WRONG, LABEL)


def test_a_test_that_could_not_have_passed_says_so():
    groups = [f"p{i}" for i in PATIENT]
    def words(k, **more):
        rows = comparison.compare_models(table(LABEL, {"svm": LABEL, "tree": wrong_on(k), **more}, groups))
        return comparison.sentence(rows[0]), rows[0]

    text, row = words(4)
    assert text.endswith("only 4 patients tell them apart: no outcome of the test could have passed")
    assert (row["informative"], row["p_least"], row["pairs"]) == (4, 0.125, 1)
    assert "is better" in words(6)[0]
    text, row = words(6, knn=LABEL, ensemble=LABEL)  # 0.031 alone, among six pairs not
    assert "p 0.031 would count alone, not among 6 pairs" in text and "could have passed among 6 pairs" in text
    assert "no patient tells them apart" in words(0)[0]


@pytest.mark.parametrize("seed", range(30))
def test_an_interval_without_zero_is_never_left_unexplained(seed):
    draw = np.random.default_rng(seed)
    n = int(draw.integers(6, 40))
    label = np.where(np.arange(n) % 2, "a", "b")
    rates = zip(("svm", "knn", "tree"), draw.uniform(0.2, 1, 3))
    said = {m: np.where(draw.random(n) < p, label, "c") for m, p in rates}
    rows = comparison.compare_models(table(label, said, None if seed % 2 else [f"p{i // 2}" for i in range(n)]))
    for row in (r for r in rows if r["a"] != "all"):
        low, high = row["difference"]["ci"]
        text = comparison.sentence(row)
        if "cannot tell" in text and not low <= 0 <= high:
            assert "count alone" in text or "could have passed" in text or "leaves 0 out" in text, text
        if "is better" in text and low <= 0 <= high: assert "still holds 0" in text


def test_a_table_and_a_sentence_for_all_pairs():
    said = {"svm": LABEL, "knn": wrong_on(4), "tree": np.where(PATIENT < 15, WRONG, LABEL)}
    rows = comparison.compare_models(table(LABEL, said, [f"p{i}" for i in PATIENT]))
    shown = comparison.comparison_table(rows)
    assert len(shown) == 3 and shown["what it says"].tolist()[1] == "linear SVM is better"
    assert "4 patients" in shown["what it says"][0]
    text = comparison.comparison_summary(rows)
    assert text.startswith("The linear SVM is better than the decision tree by 38.5 points")
    assert "could not have been told from the k-nearest neighbours" in text and text.count(".") == 2
    turned = comparison.comparison_summary(rows, "tree")
    assert turned.startswith("The decision tree is worse than the linear SVM by 38.5 points")
    assert comparison.comparison_summary(rows[-1:]) == ""


# ---- power

def test_six_patients_can_and_four_cannot():
    assert power.paired_power(np.full(6, 5), 1, 1)[0] == 1 and power.paired_power(np.full(5, 50), 1, 1)[0] == 0
    assert math.isnan(power.smallest_difference(np.full(5, 50), 0.1))
    assert math.isnan(power.smallest_difference(np.full(8, 5), 0.1, alpha=0.05 / 10))


@pytest.mark.parametrize("icc", (0.0, 0.3, 0.6))
def test_the_power_told_is_the_power_of_the_test_then_used(icc):
    sizes, draw = np.full(8, 5), np.random.default_rng(3)
    shares = draw.dirichlet(np.array([0.4, 0.04, 0.56]) * (1 / icc - 1), (1500, 8)) if icc else \
        np.broadcast_to([0.4, 0.04, 0.56], (1500, 8, 3))
    leads = [[(lambda c: c[0] - c[1])(draw.multinomial(5, p)) for p in study] for study in shares]
    found = np.array([paired_tests.sign_flip_exact(v) for v in leads])
    told = power.paired_power(sizes, 0.36, 0.44, icc, (0.05, 0.05 / 6))
    np.testing.assert_allclose(told, [np.mean(found <= a) for a in (0.05, 0.05 / 6)], atol=0.05)


def test_correlation_inside_patients_costs_power_and_is_found_again():
    sizes = np.full(400, 5)
    for icc in (0.0, 0.4):
        draw = np.random.default_rng(0)
        means = np.array([0.3, 0.2, 0.5])
        shares = draw.dirichlet(means * (1 / icc - 1), 400) if icc else np.tile(means, (400, 1))
        leads = np.concatenate([draw.choice([1, -1, 0], 5, p=p) for p in shares])
        assert power.lead_correlation(leads, np.repeat(np.arange(400), sizes)) == pytest.approx(icc, abs=0.06)
    found = [power.smallest_difference(np.full(8, 5), 0.3, icc=icc) for icc in (0.0, 0.3, 0.6)]
    assert found == sorted(found) and power.lead_correlation(np.ones(4), np.arange(4)) == 0
