"""Evaluation: shortcuts equal the plain way, nothing of a test image is learnt from, groups stay together, numbers
come from the table alone.
"""

import io
import json
from functools import lru_cache

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score, average_precision_score, balanced_accuracy_score, f1_score, matthews_corrcoef, precision_score,
    recall_score, roc_auc_score)
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from leuknb.evaluation import splits as splitting
from leuknb.evaluation import predict
from leuknb.evaluation import metrics
from leuknb.evaluation import schemes
from leuknb.evaluation import permutation
from leuknb.evaluation import plots as evaluation_plots
from leuknb.classification.estimators import make_classifier
from leuknb.core import InputError, rng, to_json
from leuknb.settings import make_settings

FEW_TREES = {"ensemble": {"n_estimators": 10}}


def features(n=80, d=300, k=2, seed=0, dtype=np.float32):
    g = rng(seed, "test features", n, d, k)
    y = np.arange(n) % k
    return np.maximum(0, g.normal(size=(n, d)) + (g.normal(size=(k, d)) * (g.random(d) < 0.05))[y]).astype(dtype), y


def study(k=2, patients=20, each=4, d=30, grouped=True):
    "Features and table of patients * each images."
    g = rng(k, "test study", patients, each)
    y = np.repeat(np.arange(patients) % k, each)
    X = (1.5 * g.normal(size=(k, d)))[y] * (np.arange(d) < 4) + np.repeat(g.normal(size=(patients, d)), each,
        0) + g.normal(size=(len(y), d))
    names = ["normal", "abnormal"] if k == 2 else [f"kind{i}" for i in range(k)]
    table = pd.DataFrame({"file_name": [f"{names[v]}/{i}.png" for i, v in enumerate(y)], "label": [names[v] for v in y],
                          "group": [f"p{i // each}" if grouped else "" for i in range(len(y))]})
    return X.astype(np.float32), table


@lru_cache
def evaluated(k=2, grouped=True):
    X, table = study(k, patients=20 if k == 2 else 32, grouped=grouped)
    s = make_settings(positive="abnormal" if k == 2 else None, n_splits=8, cv_repeats=2, permutations=20,
                      params=FEW_TREES)
    return X, table, s, predict.evaluate(X, table, s)


# nothing of a test image is learnt from

@pytest.mark.parametrize("tune", [False, True])
def test_no_test_image_changes_what_is_said_of_another(tune):
    X, table = study()
    s = make_settings(positive="abnormal", n_splits=0, cv_repeats=0, params=FEW_TREES, tune=tune)
    before = predict.evaluate(X, table, s)
    one = table.index[table.file_name == before.file_name.iloc[0]][0]
    spoilt = X.copy()
    spoilt[one] += 100
    after = predict.evaluate(spoilt, table, s)
    others = before.file_name != table.file_name[one]
    pd.testing.assert_frame_equal(before[others], after[others])


def test_tuning_chooses_without_test_labels():
    X, table = study()
    s = make_settings(positive="abnormal", n_splits=0, cv_repeats=0, classifiers=["svm", "knn"], tune=True)
    before = predict.evaluate(X, table, s)
    turned = table.label.where(~table.file_name.isin(before.file_name),
                               table.label.map({"normal": "abnormal", "abnormal": "normal"}))
    who, fake = predict.labelled_images(table, s), predict.labelled_images(table.assign(label=turned), s)
    split = splitting.random_splits(who.label, who.groups, 1, 0.2, s.seed, "holdout")
    after = predict.predict_splits(X, fake, split, s, "holdout")
    np.testing.assert_array_equal(before.score, after.score)


def test_features_that_are_not_numbers_or_do_not_fit_are_refused():
    X, table = study()
    X[3, 2] = np.inf
    with pytest.raises(InputError, match="1 rows of features"):
        predict.evaluate(X, table, make_settings(positive="abnormal"))
    with pytest.raises(InputError, match="do not fit 80 images"):
        predict.evaluate(X[:5], table, make_settings(positive="abnormal"))


# splits

def test_the_paper_s_images_give_its_holdout():
    labels = np.repeat(["normal", "abnormal"], [96, 99])
    (train, test), = splitting.random_splits(labels)
    assert len(test) == 39 and (labels[test] == "abnormal").sum() == 20 and (labels[test] == "normal").sum() == 19
    assert len(train) == 156 and not set(train) & set(test)


@given(st.integers(10, 400), st.floats(0.2, 0.5))
@settings(max_examples=60, deadline=None)
def test_the_holdout_is_as_large_as_scikit_learn_s(n, share):
    labels = np.arange(n) % 2
    expected = len(train_test_split(np.arange(n), test_size=share, stratify=labels)[1])
    assert abs(len(splitting.random_splits(labels, test_size=share)[0][1])
               - expected) <= (abs(n * share - round(n * share)) < 1e-6)


patients = st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), min_size=12, max_size=40)


def cohort(people, seed):
    g = rng(seed, "cohort")
    groups = np.repeat([f"p{i}" for i in range(len(people))], [n for n, _ in people])
    labels = np.concatenate([np.where(g.random(n) < share, "blast", "mature") for n, share in people])
    return labels, groups


def enough(labels, groups, folds):
    return all(len(set(groups[labels == c])) >= folds for c in ("blast", "mature"))


@given(patients, st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_no_patient_straddles_a_split_whatever_the_patients(people, seed):
    labels, groups = cohort(people, seed)
    if not enough(labels, groups, 4): return
    for train, test in splitting.random_splits(labels, groups, 3, 0.25, seed):
        assert not set(groups[train]) & set(groups[test]) and len(train) + len(test) == len(labels)
        assert set(labels[train]) == set(labels[test]) == {"blast", "mature"}


@given(patients, st.integers(0, 5), st.integers(2, 5))
@settings(max_examples=50, deadline=None)
def test_folds_of_patients_cover_every_image_once_and_keep_patients_together(people, seed, folds):
    labels, groups = cohort(people, seed)
    if not enough(labels, groups, folds + 1): return
    splits = splitting.cv_splits(labels, groups, folds, 2, seed)
    for repeat in (splits[:folds], splits[folds:]):
        assert sorted(np.concatenate([t for _, t in repeat])) == list(range(len(labels)))
        for train, test in repeat:
            assert not set(groups[train]) & set(groups[test]) and set(labels[train]) == {"blast", "mature"}


def test_folds_of_patients_are_at_least_as_even_as_scikit_learn_s():
    ours, theirs = [], []
    spread = lambda labels, tests: np.std([[(labels[t] == c).sum() for c in ("blast", "mature")] for t in tests],
                                          axis=0).sum()
    for seed in range(10):
        g = rng(seed, "even")
        labels, groups = cohort([(int(g.integers(1, 13)), g.beta(1, 1)) for _ in range(50)], seed)
        ours.append(spread(labels, [t for _, t in splitting.cv_splits(labels, groups, 5, 1, seed)]))
        theirs.append(spread(labels, [t for _, t in StratifiedGroupKFold(5, shuffle=True,
            random_state=seed).split(labels, labels, groups)]))
    assert np.mean(ours) <= np.mean(theirs)


def test_a_holdout_of_patients_is_near_the_share_asked_for():
    labels, groups = cohort([(int(n), p) for n, p in zip(rng(0, "n").integers(1, 10, 60), rng(0, "p").random(60))], 0)
    for _, test in splitting.random_splits(labels, groups, 40):
        for c in ("blast", "mature"): assert abs((labels[test] == c).sum() - 0.2 * (labels == c).sum()) <= 2


def test_splits_differ_from_each_other_and_repeat_with_the_seed():
    labels, groups = cohort([(5, i % 2) for i in range(30)], 0)
    for who in (None, groups):
        a, b = splitting.random_splits(labels, who, 30, seed=3), splitting.random_splits(labels, who, 30, seed=3)
        assert all(np.array_equal(x[1], y[1]) for x, y in zip(a, b))
        assert len({tuple(t) for _, t in a}) > 25
        assert np.array_equal(splitting.random_splits(labels, who, 5, seed=3)[4][1], a[4][1])


@pytest.mark.parametrize("labels,groups,error", [
    (["a"] * 9, None, "only one class"), (["a"] * 9 + ["b"], None, "class 'b' has 1 images"),
    (["a"] * 5 + ["b"] * 5, ["p", "q", "r", "s", "t"] + ["z"] * 5, "'b' are of one group"),
    (["a", "b"] * 3, ["p", "p", "q", "q", "q", "q"], "ask for at most 2")])
def test_too_few_images_or_patients_are_told_in_words(labels, groups, error):
    with pytest.raises(InputError, match=error):
        splitting.cv_splits(labels, groups, folds=3 if groups and len(labels) == 6 else 2)


def test_two_classes_need_a_positive_one():
    _, table = study()
    with pytest.raises(InputError, match="which of the classes"): predict.labelled_images(table)
    with pytest.raises(InputError, match="positive class 'abnormall' is not known"):
        predict.labelled_images(table, make_settings(positive="abnormall"))
    assert predict.labelled_images(table, make_settings(positive="normal")).classes == ["abnormal", "normal"]


def test_groups_given_by_the_caller_replace_those_of_the_table():
    X, table = study(grouped=False)
    s = make_settings(positive="abnormal", n_splits=3, cv_repeats=1, classifiers=["knn"])
    clusters = np.where(np.arange(len(table)) < 40, (np.arange(len(table)) // 2).astype(str), "")
    p = predict.evaluate(X, table, s, groups=clusters)
    assert "cv_ungrouped" in set(p.scheme)
    for _, part in p[p.scheme == "splits"].groupby("split"):
        assert set(part.group.value_counts().drop("", errors="ignore")) <= {2}


# metrics

counts = st.integers(0, 40)


@given(counts, counts, counts, counts)
@settings(max_examples=100, deadline=None)
def test_rates_equal_scikit_learn_s_and_are_nan_where_undefined(tp, fn, fp, tn):
    y, called = [1] * (tp + fn) + [0] * (fp + tn), [1] * tp + [0] * fn + [1] * fp + [0] * tn
    pairs = [(metrics.accuracy, accuracy_score, tp + fn + fp + tn, {}),
             (metrics.precision, precision_score, tp + fp, {}), (metrics.sensitivity, recall_score, tp + fn, {}),
             (metrics.specificity, recall_score, fp + tn, {"pos_label": 0}),
             (metrics.f1, f1_score, 2 * tp + fp + fn, {}), (metrics.npv, precision_score, tn + fn, {"pos_label": 0}),
             (metrics.balanced_accuracy, balanced_accuracy_score, (tp + fn) * (tn + fp), {}),
             (metrics.mcc, matthews_corrcoef, (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn), {})]
    for ours, theirs, denominator, options in pairs:
        value = ours(tp, fn, fp, tn)
        if denominator == 0: assert np.isnan(value)
        else: assert value == pytest.approx(theirs(y, called, **options))


@given(st.integers(2, 6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_macro_rates_equal_scikit_learn_s(k, seed):
    g = rng(seed, "macro")
    y = np.concatenate([np.arange(k), g.integers(0, k, 60)])
    called = np.concatenate([np.arange(k), g.integers(0, k, 60)])
    found = metrics.macro_rates(metrics.confusion(y, called, list(range(k))))
    assert found["accuracy"] == pytest.approx(accuracy_score(y, called))
    assert found["sensitivity"] == pytest.approx(recall_score(y, called,
                                                              average="macro")) == pytest.approx(
                                                                  balanced_accuracy_score(y, called))
    assert found["precision"] == pytest.approx(precision_score(y, called, average="macro"))
    assert found["f1"] == pytest.approx(f1_score(y, called, average="macro"))
    assert found["npv"] == pytest.approx(np.mean([precision_score(y != c, called != c) for c in range(k)]))
    assert found["mcc"] == pytest.approx(matthews_corrcoef(y, called))
    assert found["specificity"] == pytest.approx(np.mean([recall_score(y != c, called != c) for c in range(k)]))


def test_holdout_numbers_are_those_of_the_table_with_exact_intervals():
    X, table, s, p = evaluated(grouped=False)
    section = schemes.holdout_metrics(p, "abnormal", len(table), s.seed)
    for m, v in section["models"].items():
        t = p[(p.scheme == "holdout") & (p.model == m)]
        assert v["tp"] == ((t.label == "abnormal") & (t.predicted
                                                      == "abnormal")).sum() and v["tp"] + v["fn"] + v["fp"] + v[
                                                          "tn"] == section["n_test"] == 16
        assert v["auroc"]["value"] == pytest.approx(roc_auc_score(t.label == "abnormal", t.score))
        assert v["auprc"]["value"] == pytest.approx(average_precision_score(t.label == "abnormal",
            t.score)) and "ci" not in v["auprc"]
        for metric, k, n in (("accuracy", v["tp"] + v["tn"], 16), ("sensitivity", v["tp"], v["tp"] + v["fn"]),
                             ("specificity", v["tn"], v["tn"] + v["fp"]), ("npv", v["tn"], v["tn"] + v["fn"])):
            ci = binomtest(k, n).proportion_ci(method="exact")
            assert v[metric]["ci"] == pytest.approx([ci.low, ci.high])


@pytest.mark.parametrize("k", [2, 4])
def test_metrics_survive_the_csv_they_are_published_with(k):
    _, table, s, p = evaluated(k)
    positive = "abnormal" if k == 2 else None
    again = pd.read_csv(io.StringIO(p.to_csv(index=False)), keep_default_na=False)
    for section in (lambda t: schemes.holdout_metrics(t, positive, len(table)),
                    lambda t: schemes.splits_metrics(t, positive), lambda t: schemes.cv_metrics(t, positive),
                    lambda t: {m: v["difference"].to_dict() for m, v in schemes.grouped_gap(t).items()}):
        assert to_json(section(p)) == to_json(section(again))
        json.loads(to_json(section(p)))


def test_the_same_settings_give_the_same_table():
    X, table, s, p = evaluated()
    assert predict.evaluate(X, table, s, n_jobs=1).to_csv(index=False) == p.to_csv(index=False)


def test_every_scheme_asked_for_is_there_and_no_other():
    X, table, s, p = evaluated()
    assert {k: v for k, v in p.groupby("scheme").split.nunique().items()} == {"holdout": 1, "splits": 8, "cv": 10,
        "cv_ungrouped": 10}
    few = predict.evaluate(X, table.assign(group=""), s.model_copy(update={"n_splits": 0}))
    assert set(few.scheme) == {"holdout", "cv"}
    only = predict.evaluate(X, table, s.model_copy(update={"n_splits": 0, "cv_repeats": 0}))
    assert set(only.scheme) == {"holdout"}
    assert list(p.columns) == ["file_name", "label", "group", "model", "scheme", "split", "score", "predicted"]


def test_split_table_holds_each_split_s_own_metrics():
    _, _, _, p = evaluated()
    row = schemes.split_table(p, "abnormal").set_index(["model", "split"]).loc[("tree", 5)]
    t = p[(p.scheme == "splits") & (p.model == "tree") & (p.split == 5)]
    assert row.accuracy == pytest.approx((t.label == t.predicted).mean())
    assert row.auroc == pytest.approx(roc_auc_score(t.label == "abnormal", t.score))
    found = schemes.splits_metrics(p, "abnormal")["models"]["tree"]["accuracy"]
    values = [(t.label == t.predicted).mean() for _,
              t in p[(p.scheme == "splits") & (p.model == "tree")].groupby("split")]
    assert (found["mean"], found["sd"], found["min"]) == pytest.approx((np.mean(values), np.std(values, ddof=1),
        min(values)))
    assert found["quantiles"]["0.5"] == pytest.approx(np.median(values))


def test_cv_metrics_are_the_mean_over_repeats_of_all_images():
    _, _, _, p = evaluated()
    section = schemes.cv_metrics(p, "abnormal")
    assert (section["n_folds"], section["n_repeats"], section["kept_apart"]) == (5, 2, "patients")
    assert schemes.cv_metrics(p, "abnormal", "cv_ungrouped")["kept_apart"] is None
    t = p[(p.scheme == "cv") & (p.model == "svm")]
    repeats = [t[t.split // 5 == r] for r in range(2)]
    found = section["models"]["svm"]
    assert found["accuracy"]["value"] == pytest.approx((t.label == t.predicted).mean())
    assert found["auroc"]["value"] == pytest.approx(np.mean([roc_auc_score(r.label == "abnormal", r.score)
                                                             for r in repeats]))
    assert found["f1"]["value"] == pytest.approx(np.mean([f1_score(r.label, r.predicted, pos_label="abnormal")
                                                          for r in repeats]))
    assert found["accuracy"]["ci"][0] < found["accuracy"]["value"] < found["accuracy"]["ci"][1]


def test_many_classes_get_macro_and_per_class_metrics():
    _, table, _, p = evaluated(4)
    v = schemes.holdout_metrics(p, None, len(table))["models"]["svm"]
    t = p[(p.scheme == "holdout") & (p.model == "svm")]
    each = t[[f"score_kind{i}" for i in range(4)]].to_numpy()
    assert v["f1"]["value"] == pytest.approx(f1_score(t.label, t.predicted, average="macro"))
    assert v["mcc"]["value"] == pytest.approx(matthews_corrcoef(t.label, t.predicted))
    assert v["auprc"]["value"] == pytest.approx(np.mean([average_precision_score(t.label == f"kind{i}", each[:, i])
                                                         for i in range(4)]))
    assert v["auroc"]["value"] == pytest.approx(np.mean([roc_auc_score(t.label == f"kind{i}", each[:, i])
                                                         for i in range(4)]))
    assert np.sum(v["confusion"]) == len(t) and set(v["per_class"]) == {f"kind{i}" for i in range(4)}
    assert v["per_class"]["kind1"]["sensitivity"]["value"] == pytest.approx(recall_score(t.label, t.predicted,
        labels=["kind1"], average=None)[0])
    np.testing.assert_allclose(t.score, each.max(1))
    for m in metrics.METRICS:
        if m not in ("mcc", "auprc"): assert v[m]["ci"][0] <= v[m]["value"] <= v[m]["ci"][1]


def test_macro_intervals_hold_the_truth_about_as_often_as_promised():
    k, n, hits, draws = 6, 96, np.zeros(3), 300
    g = rng(0, "macro coverage")
    truth = 0.8
    for _ in range(draws):
        y = np.repeat(np.arange(k), n // k)
        called = np.where(g.random(n) < truth, y, (y + g.integers(1, k, n)) % k)
        who = SimpleNamespace(groups=None, split=np.zeros((n, 1), int))
        found = schemes._macro(who, y, called[:, None], np.eye(k)[called][:, None, :], k)
        for i, (m, true) in enumerate((("sensitivity", truth), ("specificity", 1 - (1 - truth) / (k - 1)),
                                       ("auroc", (truth + 1 - (1 - truth) / (k - 1)) / 2))):
            hits[i] += found[m].low <= true <= found[m].high
    assert (hits / draws > 0.91).all(), hits / draws


def test_grouped_against_ungrouped_counts_what_recognising_patients_was_worth():
    X, table = study(patients=30, d=15)
    X = np.repeat(rng(0, "look").normal(size=(30, 15)), 4, 0).astype(np.float32) + 0.01 * rng(0,
        "noise").normal(size=X.shape).astype(np.float32)  # looks, no disease
    p = predict.evaluate(X, table, make_settings(positive="abnormal", n_splits=0, cv_repeats=2, classifiers=["knn"]))
    gap = schemes.grouped_gap(p)["knn"]
    assert gap["ungrouped"] > 0.95 and 0.25 < gap["grouped"] < 0.75
    assert gap["difference"].value == pytest.approx(gap["ungrouped"] - gap["grouped"]) and gap["difference"].low > 0.1


def test_a_patient_with_half_of_the_images_has_one_vote_among_many():
    table = study(patients=20, d=3)[1]
    rows = table.assign(model="svm", scheme="cv", split=0, score=0.0, predicted=table.label)
    heavy = rows[rows.group == rows.group.iloc[0]]
    other = next(c for c in set(rows.label) if c != heavy.label.iloc[0])
    many = pd.concat([heavy.assign(predicted=other, file_name=heavy.file_name + f"-{i}") for i in range(30)])
    p = pd.concat([rows, many], ignore_index=True)
    positive = sorted(set(rows.label))[0]
    by_image = schemes.cv_metrics(p, positive)["models"]["svm"]["accuracy"]
    by_patient = schemes.patient_votes(p, positive)["svm"]["accuracy"]
    assert by_image["value"] < 0.5 < 0.93 < by_patient.value and (by_patient.n, by_patient.units) == (20, "patients")


# figures

@pytest.mark.parametrize("k", [2, 4])
def test_figures_say_when_data_are_synthetic(k):
    import matplotlib.pyplot as plt

    X, table, s, p = evaluated(k)
    positive = "abnormal" if k == 2 else None
    for synthetic in (False, True):
        figures = [evaluation_plots.plot_bars(schemes.holdout_metrics(p, positive, len(table)), synthetic),
                   evaluation_plots.plot_confusions(p, positive, synthetic),
                   evaluation_plots.plot_roc(p, positive, synthetic),
                   evaluation_plots.plot_roc(p, positive, synthetic, scheme="cv"),
                   evaluation_plots.plot_lottery(p, positive, synthetic), evaluation_plots.plot_grouped(p, synthetic),
                   evaluation_plots.plot_permutation(permutation.permutation_test(X, table, s), synthetic)]
        for fig in figures:
            text = (fig.get_suptitle() or "") + "".join(ax.get_title() for ax in fig.axes)
            assert ("synthetic" in text) == synthetic
            plt.close(fig)


def test_a_classifier_of_another_name_is_drawn_and_named():
    import matplotlib.pyplot as plt

    X, table = study()
    s = make_settings(positive="abnormal", n_splits=4, cv_repeats=1,
                      classifiers=["sklearn.linear_model.LogisticRegression", "svm"])
    p = predict.evaluate(X, table, s)
    fig = evaluation_plots.plot_lottery(p, "abnormal")
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["LogisticRegression", "linear SVM"]
    plt.close(fig)
    t = p[(p.scheme == "holdout") & (p.model == s.classifiers[0])]
    train = ~table.file_name.isin(t.file_name).to_numpy()
    plain = make_classifier(s.classifiers[0]).fit(X[train], (table.label == "abnormal")[train])
    assert isinstance(plain["classify"], LogisticRegression)
    np.testing.assert_allclose(t.score, plain.decision_function(X[~train]), atol=1e-6)


def test_the_split_that_came_with_the_data_is_one_more_scheme_beside_the_others():
    X, table = study()
    part = np.where(np.arange(len(table)) % 4 == 0, "TestA", np.where(np.arange(len(table)) % 4 == 1, "val", "Train"))
    table = table.assign(split=part)
    settings = make_settings(positive="abnormal", classifiers=["knn"], n_splits=0, cv_repeats=0, split="given")
    found = predict.evaluate(X, table, settings)
    assert set(found["scheme"]) == {"holdout", "given"}
    tested = found[found["scheme"] == "given"]
    assert sorted(tested["file_name"]) == sorted(table.loc[part == "TestA", "file_name"])
    section = schemes.given_metrics(found, "abnormal", {"TestA": int((part == "TestA").sum())})
    assert section["models"]["knn"]["accuracy"]["value"] == (tested["label"] == tested["predicted"]).mean()
    folds = predict.evaluate(X, table.assign(split=[f"fold_{i % 3}" for i in range(len(table))]), settings)
    assert sorted(folds.loc[folds["scheme"] == "given", "file_name"]) == sorted(table["file_name"])
    with pytest.raises(InputError, match="split=given"): predict.evaluate(X, table.drop(columns="split"), settings)


def test_parameters_are_chosen_on_the_validation_part_of_a_given_split(monkeypatch):
    X, table = study()
    part = np.array(["Train", "Train", "val", "test"], object)[np.arange(len(table)) % 4]
    seen = []
    inside = predict.run_folds
    monkeypatch.setattr(predict, "run_folds", lambda *a, **k: seen.append(a[7]) or inside(*a, **k))
    settings = make_settings(positive="abnormal", classifiers=["knn"], n_splits=0, cv_repeats=0, tune=True)
    predict.predict_given(X, predict.labelled_images(table, settings), table.assign(split=part), settings)
    train = np.flatnonzero(part == "Train")
    (fit, chosen), = seen[0](train)
    assert fit is train and (part[chosen] == "val").all()
