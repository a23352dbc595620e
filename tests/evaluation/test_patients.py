"""From images to the person: whose fact the label is, rules that others fixed, shares of cells turned back."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from leuknb.core import InputError, rng
from leuknb.evaluation import cell_shares, patients
from leuknb.evaluation.patients import PatientImages


def images(n=40, size=10, repeats=2, effect=1.5, spread=0.7, seed=0, mixed=False):
    g = rng(seed, "test patients")
    codes = np.repeat(np.arange(n), size)
    y = (g.random(n * size) < g.beta(1, 2, n)[codes]).astype(int) if mixed else codes % 2
    score = (effect * (y - 0.5) + spread * g.normal(size=n)[codes])[:, None] + g.normal(size=(n * size, repeats))
    fold = np.column_stack([(g.permutation(n // 2)[np.arange(n) // 2] % 5 + 5 * r)[codes] for r in range(repeats)])
    names = np.array([f"p{i:02d}" for i in range(n)], object)
    return PatientImages(names, names, codes, np.array([f"{i}.png" for i in range(n * size)], object), y,
                         (score > 0).astype(int), score, fold)


def table(i: PatientImages) -> pd.DataFrame:
    rows = [pd.DataFrame({"file_name": i.file_name, "label": np.where(i.y, "pos", "neg"), "group": i.patients[i.codes],
                          "model": "svm", "scheme": "cv", "split": i.fold[:, r], "score": i.score[:, r],
                          "predicted": np.where(i.called[:, r], "pos", "neg")}) for r in range(i.fold.shape[1])]
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize(("labels", "people", "fact", "mixed"), [
    ("aabb", "ppqq", "patient", 0), ("abbb", "ppqq", "image", 1), ("abab", "ppqq", "image", 2),
    ("abcc", "pqrr", "patient", 0)])
def test_one_patient_of_two_classes_makes_the_label_a_fact_of_the_image(labels, people, fact, mixed):
    found = patients.patient_counts(list(labels), list(people))
    assert (found["label_of"], found["n_mixed"]) == (fact, mixed)


def test_images_come_back_from_the_predictions_whatever_their_order_and_unnamed_ones_are_left_out():
    i = images()
    whose = dict(zip(i.file_name, i.patients[i.codes]))
    whose[i.file_name[0]] = ""
    found = patients.patient_images(table(i).sample(frac=1, random_state=0), "svm", "pos", whose)
    assert len(found.file_name) == len(i.file_name) - 1 and (found.patients == i.patients).all()
    at = pd.Index(i.file_name).get_indexer(found.file_name)
    assert (found.score == i.score[at]).all() and (found.y == i.y[at]).all() and (found.codes == i.codes[at]).all()


@pytest.mark.parametrize("patient", [0, 7, 20])
def test_neither_label_nor_scores_of_a_patient_shape_the_rule_that_judges_the_fold_of_that_patient(patient):
    i = images()
    mine, before = i.codes == patient, patients.judge_patients(i)
    other = i._replace(y=np.where(mine, 1 - i.y, i.y), score=np.where(mine[:, None], -i.score, i.score),
                       called=np.where(mine[:, None], 1 - i.called, i.called))
    after = patients.judge_patients(other)
    for r in range(2):
        same = (i.held[:, r] == i.held[patient, r]) & (np.arange(40) != patient)
        assert (after.probability[same, r] == before.probability[same, r]).all()
        assert (after.called[same, r] == before.called[same, r]).all()


def test_auroc_of_patients_is_that_of_their_probabilities_and_the_units_are_patients():
    judged = patients.judge_patients(images(repeats=1))
    found = patients.patient_metrics(judged)
    assert found["auroc"].value == pytest.approx(roc_auc_score(judged.images.label, judged.probability[:, 0]))
    right = (judged.called[:, 0] == judged.images.label).mean()
    assert found["accuracy"].value == pytest.approx(right) and found["accuracy"].n == 40
    assert all(e.low <= e.value <= e.high for e in found.values())


def test_sensitivity_and_specificity_of_patients_have_the_exact_interval_of_the_patients_of_their_class():
    judged = patients.judge_patients(images(repeats=1))
    found = patients.patient_metrics(judged)
    for metric, label in (("sensitivity", 1), ("specificity", 0)):
        called = judged.called[judged.images.label == label, 0]
        assert found[metric].n == len(called) == 20
        exact = stats.binomtest(int((called == label).sum()), 20).proportion_ci(method="exact")
        assert found[metric].ci == pytest.approx([exact.low, exact.high])


def test_the_rule_is_the_one_that_tells_the_training_patients_apart():
    y = np.arange(20) % 2
    good, bad = y + 0.1 * np.arange(20) / 20, np.arange(20) / 20
    assert patients.fold_rule(y, {"mean": bad, "share": good, "quantile": bad}).rule == "share"
    fixed = patients.fold_rule(y, {"mean": good, "share": good, "quantile": good})
    assert fixed.rule == "mean" and fixed.threshold == 0.5 and fixed.calibrate(1.0) > 0.5 > fixed.calibrate(0.05)


def test_more_images_of_a_patient_are_better_and_all_of_them_are_the_mean():
    i = images(60, 12, 3, effect=1.0, spread=0.2)
    rows = patients.images_needed(i, draws=6)
    assert [r["n"] for r in rows] == [1, 2, 5, 10, 12]
    assert rows[0]["balanced_accuracy"].value < rows[2]["balanced_accuracy"].value < rows[4]["balanced_accuracy"].value
    mean = patients.patient_metrics(patients.judge_patients(i, ("mean",)))
    assert rows[-1]["balanced_accuracy"].value == pytest.approx(mean["balanced_accuracy"].value)


def test_the_table_of_patients_has_the_wrong_ones_first_the_surest_on_top():
    judged = patients.judge_patients(images(effect=0.5))
    found = patients.patient_table(judged, ["neg", "pos"])
    wrong = int(found["wrong"].sum())
    assert 0 < wrong < 40 and found["wrong"].tolist() == [True] * wrong + [False] * (40 - wrong)
    assert ((found["called"] != found["label"]) == found["wrong"]).all() and found["right"].is_monotonic_increasing


def test_a_classifier_that_knows_beats_the_mean_and_noise_does_not():
    i = images(effect=0.3)
    good, test = patients.beside_the_mean(i, np.clip(i.label + 0.01 * np.arange(40) / 40, 0, 1))
    assert good["auroc"].value == 1 and test["difference"].low > 0 and test["p"] < 0.05
    assert patients.beside_the_mean(i, rng(1, "noise").random(40))[1]["difference"].value < 0.1


# shares of positive cells

def test_rogan_gladen_turns_back_what_errors_do_to_a_share():
    p = np.linspace(0, 1, 11)
    for se, sp in ((0.9, 0.8), (0.7, 0.99), (1, 1)):
        assert cell_shares.rogan_gladen(p * se + (1 - p) * (1 - sp), se, sp) == pytest.approx(p)
    assert np.isnan(cell_shares.rogan_gladen(0.5, 0.4, 0.6)) and np.isnan(cell_shares.rogan_gladen(0.5, 0.3, 0.3))


@pytest.mark.parametrize("true", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_the_interval_of_a_share_holds_it_and_lies_within_0_and_1(true):
    g = rng(0, "share interval", true)
    se, sp, m = 0.85, 0.9, 40
    k = round(true * m)
    q = (g.binomial(k, se, 2000) + g.binomial(m - k, 1 - sp, 2000)) / m
    low, high = cell_shares.share_interval(q, np.full(2000, m), cell_shares.CellRate(se, 1e6, 0),
                                           cell_shares.CellRate(sp, 1e6, 0), 1000)
    assert (low >= 0).all() and (high <= 1).all()
    assert np.mean((low <= true + 1e-9) & (true - 1e-9 <= high)) > 0.93


def test_correction_takes_the_bias_of_a_share_away_and_cuts_are_counted():
    plain, corrected = [], []
    for seed in range(10):
        found = cell_shares.patient_shares(images(60, 30, 1, effect=1.6, spread=0.2, seed=seed, mixed=True))
        plain.append((found["plain"] - found["true"]).mean())
        corrected.append((found["corrected"] - found["true"]).mean())
        assert (found["cut"] == found["corrected"].isin([0, 1])).all() or found["cut"].sum() <= found[
            "corrected"].isin([0, 1]).sum()
    assert abs(np.mean(corrected)) < 0.02 < abs(np.mean(plain))


def test_rates_that_correct_a_patient_are_those_of_other_folds():
    i = images(repeats=1, mixed=True)
    mine = i.held[i.codes, 0] == i.held[0, 0]
    other = cell_shares.other_rates(i._replace(called=np.where(mine[:, None], 1 - i.called, i.called)), 1)
    first = cell_shares.other_rates(i, 1)
    same = i.held[:, 0] == i.held[0, 0]
    assert (first.value[same] == other.value[same]).all() and (first.value[~same] != other.value[~same]).all()


def test_limits_of_agreement_are_those_of_bland_and_altman_and_hold_nineteen_of_twenty():
    d = rng(0, "agreement").normal(0.03, 0.1, 4000)
    found = cell_shares.bland_altman(d)
    assert found["bias"].value == pytest.approx(d.mean())
    assert (found["upper"].value - found["lower"].value) == pytest.approx(2 * stats.norm.ppf(0.975) * d.std(ddof=1))
    assert np.mean((found["lower"].value < d) & (d < found["upper"].value)) == pytest.approx(0.95, abs=0.01)
    half = stats.t.ppf(0.975, 3999) * d.std(ddof=1) / np.sqrt(4000)
    assert found["bias"].high == pytest.approx(d.mean() + half)


def test_the_side_of_a_threshold_has_the_exact_interval_and_a_share_at_it_is_positive():
    found = cell_shares.side_right([0.2] * 19 + [0.1], [0.2] * 20)
    assert found.value == 0.95
    assert found[1:3] == pytest.approx((stats.beta.ppf(0.025, 19, 2), stats.beta.ppf(0.975, 20, 1)))


def test_judging_mixed_patients_is_refused():
    with pytest.raises(InputError, match="both classes"): patients.judge_patients(images(mixed=True))
