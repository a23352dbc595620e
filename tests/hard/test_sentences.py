"""The sentences of extreme sets, read: what a report says of a perfect model, of one that calls everything normal, of
two cases of leukemia, of one patient who is half of the set, of three classes, of people without names.
"""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from leuknb.core import rng
from leuknb.data.datasets import groups as own_groups
from leuknb.evaluation.plots import plot_bars, plot_grouped, plot_lottery
from leuknb.evaluation.schemes import cv_metrics, grouped_gap, holdout_metrics, patient_votes, plain, splits_metrics
from leuknb.evaluation.splits import cv_splits, random_splits
from leuknb.evaluation.warnings import number_warnings
from leuknb.reporting.conclusions import compared_words, conclusions, FIRST, limits
from leuknb.reporting.headline import first_screen, headline_section
from leuknb.reporting.interactive import alternative
from leuknb.reporting.study import comparison_section
from leuknb.reporting.text import (
    comparisons_html, cv_caption, grouped_words, lottery_words, models_caption, models_table, paper_table_html)
from leuknb.settings import make_settings
from leuknb.warning_codes import warning

FOLDS, REPEATS = 5, 4


def table_of(label, group, models, repeats=REPEATS):
    """A predictions table without a fit: `models` gives for each model the share of images called wrongly, or the one
    class it calls everything.
    """
    classes = sorted(set(label))
    names = np.array([f"{i:04}.png" for i in range(len(label))], object)
    groups = own_groups(group, names)
    schemes = {"holdout": random_splits(label, groups, 1, 0.2, 0, "holdout"),
               "splits": random_splits(label, groups, 20, 0.2, 0)}
    if repeats: schemes["cv"] = cv_splits(label, groups, FOLDS, repeats, 0)
    if repeats and groups is not None: schemes["cv_ungrouped"] = cv_splits(label, None, FOLDS, repeats, 0)
    rows = []
    for scheme, splits in schemes.items():
        for m, how in models.items():
            for at, (_, test) in enumerate(splits):
                rows.append(_rows(names, label, group, classes, test, m, how, scheme, at))
    return pd.concat(rows, ignore_index=True)


def _rows(names, label, group, classes, test, model, how, scheme, at):
    "The predictions of one split; the wrong images are the same in every split, as hard cells are."
    called = label.copy()
    if isinstance(how, str): called[:] = how
    else:
        seed = model.split("_")[0]  # svm_again errs where svm does
        wrong = rng(7, "wrong", seed).random(len(label)) < how
        called[wrong] = [classes[(classes.index(c) + 1) % len(classes)] for c in label[wrong]]
    t = pd.DataFrame({"file_name": names[test], "label": label[test], "group": group[test], "model": model,
                      "scheme": scheme, "split": at})
    positive = classes[0]
    score = (called[test] == positive) + 0.3 * rng(8, "score").random(len(label))[test]
    if isinstance(how, str): score = np.zeros(len(test))
    t["score"], t["predicted"] = score, called[test]
    if len(classes) > 2:
        for c in classes: t[f"score_{c}"] = (called[test] == c).astype(float)
    return t


def study_of(label, group, models, repeats=REPEATS, **settings):
    "Everything the report says in words of such a set."
    label, group = np.asarray(label, object), np.asarray(group, object)
    classes = sorted(set(label))
    positive = classes[0] if len(classes) == 2 else None
    named = bool((group != "").any())
    t = table_of(label, group, models, repeats)
    settings = make_settings(data="smears", positive=positive, classifiers=list(models), cv_repeats=repeats, **settings)
    metrics = {"schema": 2,
               "dataset": {"name": "smears", "n_images": len(label), "n_skipped": 0, "classes": classes,
                           "positive": positive, "counts": {c: int((label == c).sum()) for c in classes},
                           "n_patients": len(set(group) - {""}) or None, "patients_named": float((group != "").mean()),
                           "sites": None, "fingerprint": "c0ffee" * 10, "synthetic": False},
               "holdout": holdout_metrics(t, positive, len(label)), "splits": splits_metrics(t, positive)}
    if repeats: metrics["cv"] = cv_metrics(t, positive)
    if repeats and named: metrics["patients"] = {"votes": plain(patient_votes(t, positive))}
    metrics["comparisons"] = comparison_section(t, settings)
    tested = t[t["scheme"] == ("cv" if repeats else "holdout")].drop_duplicates("file_name")
    people = own_groups(tested["group"], tested["file_name"]) if named else None
    metrics["headline"] = headline_section(metrics, number_warnings(metrics, tested["label"].to_numpy(), people))
    return SimpleNamespace(metrics=metrics, predictions=t, settings=settings)


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"</?span[^>]*>", "", html))).strip()


def sentences(s) -> list[str]:
    "All sentences of the study's page that are made from its numbers."
    m = s.metrics
    said = [text_of(first_screen(m, s.settings)), *conclusions(m)[FIRST:], *limits(m), lottery_words(m),
            compared_words(m), models_caption(m), text_of(paper_table_html(m)), text_of(comparisons_html(m)),
            *(alternative(name, m) for name in ("bars", "confusions", "roc", "lottery"))]
    if "cv" in m: said.append(cv_caption(m))
    if "cv_ungrouped" in set(s.predictions["scheme"]): said.append(grouped_words(grouped_gap(s.predictions)))
    return said


def people(n_patients, images, share=0.5):
    "Labels and patients: `share` of the patients are abnormal."
    sick = round(n_patients * share)
    label = ["abnormal"] * (sick * images) + ["normal"] * ((n_patients - sick) * images)
    return label, [f"p{i // images}" for i in range(n_patients * images)]


def one_big():
    label, group = people(40, 3)
    return label, ["giant"] * 30 + group[30:]


NOISY = {"svm": 0.08, "tree": 0.2}
SETS = {
    "perfect": lambda: study_of(*people(40, 4), {"svm": 0.0, "tree": 0.15}),
    "constant": lambda: study_of(*people(40, 4), {"svm": "normal", "tree": 0.15}),
    "rare": lambda: study_of(["abnormal"] * 8 + ["normal"] * 392, [""] * 400, {"svm": "normal", "tree": 0.02}),
    "one big patient": lambda: study_of(*one_big(), NOISY),
    "three classes": lambda: study_of(["blast"] * 60 + ["lymphocyte"] * 60 + ["monocyte"] * 60,
                                      [f"p{i // 4}" for i in range(180)], NOISY),
    "unnamed": lambda: study_of(["abnormal"] * 90 + ["normal"] * 90, [""] * 180, NOISY),
    "six patients": lambda: study_of(*people(6, 20), {"svm": 0.1, "tree": 0.2}),
    "identical models": lambda: study_of(*people(40, 4), {"svm": 0.1, "svm_again": 0.1}),
    "one split": lambda: study_of(*people(40, 4), NOISY, repeats=0),
    "one model": lambda: study_of(*people(40, 4), {"svm": 0.1}),
}
KNOWN = {}


def made(name):
    if name not in KNOWN: KNOWN[name] = SETS[name]()
    return KNOWN[name]


def codes(s): return [w["code"] for w in s.metrics["headline"]["warnings"]]


@pytest.mark.parametrize("name", SETS)
def test_no_set_makes_a_sentence_that_is_no_sentence(name):
    for said in sentences(made(name)):
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b|[{}]|\ban? \d+ images? of 0\b", said), said
        assert not re.search(r"(?<![-\d.])(\d+\.\d) to \1\b", said), said  # an interval or a range without width
    screen = text_of(first_screen(made(name).metrics, made(name).settings))
    assert "undefined" not in screen and "no interval" not in screen


@pytest.mark.parametrize("name", SETS)
def test_no_sentence_stands_twice(name):
    s = made(name)
    said = [*conclusions(s.metrics), *limits(s.metrics), lottery_words(s.metrics), compared_words(s.metrics),
            *(w["text"] for w in s.metrics["headline"]["warnings"])]
    assert len(said) == len(set(said)) and len(conclusions(s.metrics)) >= FIRST


@pytest.mark.parametrize("name", SETS)
def test_a_model_is_called_better_only_where_a_test_passed(name):
    s = made(name)
    passed = [r for r in s.metrics["comparisons"] if r["a"] != "all" and r["p_adjusted"] < 0.05]
    if not passed:
        for said in sentences(s): assert not re.search(r"is (?:better|worse) than the ", said), said
    assert not any(re.search(r"(?:SVM|tree) (?:is|does) the best|wins|outperforms", said) for said in sentences(s))


@pytest.mark.parametrize("name", SETS)
def test_numbers_of_other_images_are_never_placed_among_those_of_this_run(name):
    for said in sentences(made(name)):
        assert not re.search(r"(?:inside|above|below) (?:the interval|all \d+|\d+ % of the) ?(?:of this|splits)", said)
    assert "of other images" in compared_words(made(name).metrics)


@pytest.mark.parametrize("name", SETS)
def test_what_guessing_reaches_decides_what_is_said_of_learning(name):
    s = made(name)
    first, estimate = conclusions(s.metrics)[0], s.metrics["headline"]["estimate"]
    better = estimate["ci"][0] > 1 / len(s.metrics["dataset"]["classes"])
    assert ("do not show" in first) == (not better) == ("LKB304" in codes(s))


def test_a_perfect_model_is_not_promised_to_be_perfect():
    s = made("perfect")
    screen = text_of(first_screen(s.metrics, s.settings))
    assert "100.0 % balanced accuracy" in screen and "to 100.0 %" in screen
    assert s.metrics["headline"]["estimate"]["ci"][0] < 0.99
    assert "misses 0.0 %" in " ".join(conclusions(s.metrics)) and codes(s) == []


def test_a_model_that_calls_all_normal_leads_with_fifty_per_cent_and_says_that_nothing_was_learned():
    for name in ("constant", "rare"):
        s = made(name)
        screen = text_of(first_screen(s.metrics, s.settings))
        assert "50.0 % balanced accuracy" in screen and "97.5" not in screen and "98.0 %" not in screen
        assert "LKB304" in codes(s) and "not shown to be better than chance" in screen
        assert re.search(r"sensitivity: abnormal called so 0\.0 %", screen)


def test_a_rare_class_says_what_cannot_be_said_of_it_and_precision_says_at_which_share():
    s = made("rare")
    assert "LKB301" in codes(s) and "rests on 8 images" in text_of(first_screen(s.metrics))
    assert "precision (at 2.0 % abnormal)" in models_table(s.metrics, "cv")
    assert "8 images" in text_of(first_screen(s.metrics)) and "392 images" in text_of(first_screen(s.metrics))


def test_one_patient_who_is_a_quarter_of_the_images_is_a_warning():
    s = made("one big patient")
    assert codes(s) == ["LKB302"]
    assert "One patient holds 30 of the 60 images of class abnormal (50 %)" in text_of(first_screen(s.metrics))
    votes = s.metrics["patients"]["votes"]["svm"]["balanced_accuracy"]
    assert f"With one vote for every patient the balanced accuracy is {100 * votes['value']:.1f} % (" in text_of(
        first_screen(s.metrics))


def test_three_classes_lead_with_the_mean_sensitivity_and_say_so():
    s = made("three classes")
    screen = text_of(first_screen(s.metrics, s.settings))
    assert "Which of 3 classes?" in screen and "mean sensitivity over 3 classes" in screen
    assert "specificity, mean over 3 classes" in screen and "which reaches 33.3 %" in screen
    assert not any("misses" in c for c in conclusions(s.metrics))


def test_people_without_names_are_said_beside_the_number_and_asked_for():
    s = made("unnamed")
    screen = text_of(first_screen(s.metrics, s.settings))
    assert "patients are not named, so images of one person may be on both sides" in screen
    assert "--set group=COLUMN" in screen and "no patient is on both sides" not in " ".join(sentences(s))
    assert any("Patients are not named" in limit for limit in limits(s.metrics))


def test_six_patients_are_few_and_no_test_is_said_to_have_found_what_it_could_not():
    s = made("six patients")
    assert {"LKB301", "LKB303"} <= set(codes(s))
    screen = text_of(first_screen(s.metrics))
    assert "rests on 3 patients" in screen and "Only 6 patients stand behind the number" in screen
    assert "120 images of 6 patients" in screen and "60 images of 3 patients" in screen


def test_identical_models_are_not_told_apart():
    s = made("identical models")
    assert "not told apart" in text_of(comparisons_html(s.metrics)) or "could not have been told" in text_of(
        comparisons_html(s.metrics))
    rows = [r for r in s.metrics["comparisons"] if r["a"] != "all"]
    assert all(r["difference"]["ci"][0] < 0 < r["difference"]["ci"][1] for r in rows)


def test_without_cross_validation_the_holdout_leads_and_says_that_it_is_one_split():
    s = made("one split")
    screen = text_of(first_screen(s.metrics, s.settings))
    assert s.metrics["headline"]["scheme"] == "holdout" and "one split, and another would give another" in screen
    assert "cross-validated" not in screen and "leuknb report" in screen and "cv_repeats" not in screen
    assert {"LKB301", "LKB303"} <= set(codes(s)), "eight patients are held out, four of each class"


def test_an_acknowledged_warning_stays_in_a_quieter_line_and_no_longer_speaks_against_the_number():
    s = made("one big patient")
    loud = first_screen(s.metrics)
    m = s.metrics | {"headline": headline_section(s.metrics, s.metrics["headline"]["warnings"], ["LKB302"])}
    quiet = first_screen(m)
    assert "Before you believe this number" in loud and "acknowledged" not in loud
    assert "Before you believe this number" not in quiet and "acknowledged: LKB302 One patient holds" in text_of(quiet)


def test_a_shortcut_is_said_in_the_first_conclusion_and_leads_to_the_audit():
    s = made("perfect")
    audit = {"audit": {"warnings": [warning("LKB201", "The size of the file tells the classes apart.")]}}
    m = s.metrics | audit | {"headline": headline_section(s.metrics | audit)}
    assert "whether by the cells is open" in conclusions(m)[0] and "leuknb audit smears" in first_screen(m, s.settings)
    assert "by the cells" not in conclusions(s.metrics)[0]


def test_the_first_screen_names_no_address_outside_and_gives_one_command():
    for name in SETS:
        page = first_screen(made(name).metrics, made(name).settings)
        assert "http" not in page and "<a " not in page and page.count("<pre") == 1


def test_the_lottery_shows_no_number_of_other_images_and_the_bars_say_their_share():
    import matplotlib.pyplot as plt

    s = made("rare")
    fig = plot_lottery(s.predictions, "abnormal")
    assert not any("paper" in text.get_text() for text in fig.findobj(plt.Text))
    bars = plot_bars(s.metrics["holdout"])
    assert any("precision\nat 2.5 % positive" in t.get_text() for t in bars.axes[0].get_xticklabels())
    plt.close("all")


def test_splitting_patients_up_is_called_a_gain_only_beyond_its_interval():
    import matplotlib.pyplot as plt

    s = made("perfect")
    assert "do not show that splitting patients up" in grouped_words(grouped_gap(s.predictions))
    fig = plot_grouped(s.predictions)
    assert not any("recognis" in text.get_text() for text in fig.findobj(plt.Text))
    plt.close("all")


def test_shuffled_labels_that_do_as_well_take_the_claim_of_learning_back():
    s = made("perfect")
    metrics = {**s.metrics, "permutation": {"p": 0.75, "smallest_p": 0.001}}
    assert "better than guessing" in conclusions(s.metrics)[0] and "do not show" not in conclusions(s.metrics)[0]
    assert "do not show" in conclusions(metrics)[0]
