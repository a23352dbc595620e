"""Reporting checklists: every answer follows the metrics and settings, nothing is claimed of what was not run, the
HTML is safe and self-contained.
"""

import copy
import json
import re
from html.parser import HTMLParser

import pytest
from conftest import ROOT
from hypothesis import given, settings as hypothesis_settings, strategies as st

from leuknb.reporting.checklist_answers import ANSWERED, ANSWERS, AUTHORS, HEADINGS, PARTLY, STATUSES
from leuknb.reporting.checklist_items import CHECKLISTS, CLAIM, FOR_AUTHORS, OF_PEOPLE
from leuknb.reporting.checklists import answer, checklists_html, summary_table
from leuknb.settings import Settings

NB = ROOT / "nbs" / "reports" / "report.ipynb"


def model(tp=19, fn=1, fp=1, tn=18):
    n = tp + fn + fp + tn
    return {"tp": tp, "fn": fn, "fp": fp, "tn": tn, "accuracy": {"value": (tp + tn) / n, "ci": [0.8, 0.99]},
            "sensitivity": {"value": tp / (tp + fn), "ci": [0.7, 0.99]},
            "specificity": {"value": tn / (fp + tn)}, "auroc": {"value": 0.97}}


def full_metrics(groups=39):
    "Metrics of a run with every section, in the layout of metrics.json."
    estimate = {"value": 0.9, "ci": [0.85, 0.94], "n": 39, "units": "patients"}
    rate = {"mean": 0.9, "min": 0.8, "max": 0.97, "sd": 0.04}
    return {"schema": 2,
            "dataset": {"name": "smears", "n_images": 195, "n_skipped": 0, "classes": ["abnormal", "normal"],
                        "positive": "abnormal", "counts": {"abnormal": 99, "normal": 96},
                        "n_patients": groups, "fingerprint": "c0ffee" * 10, "synthetic": False},
            "features": {"backbone": "efficientnet_lite0", "layers": ["penultimate"], "views": ["identity"],
                         "image_size": 224, "n_features": 1280},
            "holdout": {"n_train": 156, "n_test": 39, "seed": 0,
                        "models": {"knn": model(15, 5, 0, 19), "svm": model()}},
            "splits": {"n_splits": 200, "models": {"knn": {"accuracy": rate}, "svm": {"accuracy": rate}}},
            "cv": {"scheme": "grouped", "n_folds": 5, "n_repeats": 10, "kept_apart": "patients" if groups else None,
                   "models": {m: {"accuracy": estimate, "balanced_accuracy": estimate, "auroc": estimate}
                              for m in ("svm", "knn")}},
            "comparisons": [{"a": "svm", "b": "knn", "p": 0.2, "p_adjusted": 0.2}],
            "permutation": {"classifier": "svm", "metric": "balanced_accuracy", "n_permutations": 1000, "observed": 0.9,
                            "p": 0.001, "smallest_p": 0.001, "n_labellings": None,
                            "null": {"mean": 0.5}},
            "calibration": {"svm": {"brier": {"value": 0.07}, "ece": {"value": 0.04}}},
            "thresholds": {"svm": {"0.95": {}, "0.99": {}}},
            "audit": {"exact_duplicates": 0, "near_duplicates": 0, "label_conflicts": 0, "leaks": 0, "warnings": [],
                      "shortcuts": [{"probe": "file", "auroc": {"value": 0.52, "ci": [0.44, 0.6]}, "p": 0.4}]}}


def row(name, item, metrics, settings=None):
    checklist = next(c for c in CHECKLISTS if c.name == name)
    return answer(checklist, metrics, settings or Settings()).set_index("item").loc[item]


def test_the_item_counts_are_those_of_the_sources():
    assert [(c.name, len(c.items)) for c in CHECKLISTS] == [("TRIPOD+AI", 52), ("CLAIM", 44), ("STARD-AI", 48),
                                                            ("PROBAST+AI", 24)]
    for c in CHECKLISTS: assert len({i.number for i in c.items}) == len(c.items)


def test_every_source_is_cited_with_its_doi_and_no_address():
    dois = {"TRIPOD+AI": "10.1136/bmj-2023-078378", "CLAIM": "10.1148/ryai.240300",
            "STARD-AI": "10.1038/s41591-025-03953-8", "PROBAST+AI": "10.1136/bmj-2024-082505"}
    for c in CHECKLISTS: assert f"doi:{dois[c.name]}" in c.source and "http" not in c.source


def test_every_item_has_an_answer_and_every_answer_an_item():
    known = [*ANSWERS, *FOR_AUTHORS, *OF_PEOPLE]
    assert len(known) == len(set(known)) and {i.answer for c in CHECKLISTS for i in c.items} == set(known)


def test_every_link_goes_to_a_heading_of_the_report():
    cells = json.loads(NB.read_text())["cells"]
    headings = {line.lstrip("# ").strip() for c in cells if c["cell_type"] == "markdown"
                for line in "".join(c["source"]).splitlines() if line.startswith("#")}
    assert {h for h in HEADINGS.values() if h} <= headings


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.sets(st.sampled_from(sorted(full_metrics()))), st.sampled_from([None, 0, 1, 39]), st.booleans(),
       st.integers(0, 3))
def test_any_subset_of_sections_gives_a_complete_table(absent, groups, synthetic, skipped):
    m = full_metrics(groups)
    m["dataset"] |= {"synthetic": synthetic, "n_skipped": skipped}
    for status, words, heading in (a({k: v for k, v in m.items() if k not in absent}, Settings())
                                   for a in ANSWERS.values()):
        assert status in STATUSES and len(words) > 10 and words.endswith(".") and bool(heading) == (status != AUTHORS
            and heading in HEADINGS.values())
        assert not re.search(r"\bnan\b|\bNone\b|[{}]|  |\. [a-z]", words) or "leuknb" in words
        assert words[0].isupper() or words.startswith(("svm", "leuknb", "dataset.csv", "smears",
                                                       "efficientnet")) or words[0].isdigit()


def test_no_metrics_at_all_claims_nothing_of_the_data():
    t = answer(CHECKLISTS, {})
    assert set(t.loc[t["status"] != AUTHORS, "answer"].str[:6]) == {"leuknb"}  # software and code only
    assert not t["answer"].str.contains(r"\d+ (?:images|files|patients)").any()


@pytest.mark.parametrize(("section", "name", "item", "left"), [
    ("cv", "CLAIM", "32", AUTHORS), ("splits", "CLAIM", "30", AUTHORS), ("holdout", "STARD-AI", "30", AUTHORS),
    ("features", "TRIPOD+AI", "22", AUTHORS),
    ("calibration", "PROBAST+AI", "E 4.7", PARTLY), ("calibration", "TRIPOD+AI", "15", PARTLY),
    ("audit", "PROBAST+AI", "E 4.5", PARTLY)])
def test_a_section_that_was_not_run_is_said_to_be_no_part_of_the_run(section, name, item, left):
    m = full_metrics()
    assert row(name, item, m)["status"] == ANSWERED
    del m[section]
    without = row(name, item, m)
    assert without["status"] == left and "ot part of this run" in without["answer"]


def test_external_images_are_claimed_only_when_there_are_any():
    m = full_metrics()
    assert row("CLAIM", "33", m)[["status", "answer"]].tolist() == [AUTHORS,
        "Not part of this run: images of another source."]
    assert row("CLAIM", "33", m | {"external": {}})["status"] == PARTLY


def test_unnamed_patients_are_left_to_the_authors():
    named, unnamed = full_metrics(39), full_metrics(None)
    for name, item in (("CLAIM", "20"), ("PROBAST+AI", "E 4.5")):
        assert row(name, item, named)["status"] == ANSWERED and "39 patients" in row(name, item, named)["answer"]
        found = row(name, item, unnamed)
        assert found["status"] == PARTLY and "patients are not named in these data" in found["answer"]
        del (bare := copy.deepcopy(unnamed))["audit"]
        assert row(name, item, bare)["status"] == AUTHORS


def test_leaks_warnings_and_unusable_files_are_named_and_left_open():
    m = full_metrics()
    m["audit"] |= {"leaks": 2, "warnings": [{"code": "LKB201", "text": "file size tells the classes apart"}]}
    m["dataset"]["n_skipped"] = 3
    assert "2 leaks" in row("CLAIM", "20", m)["answer"] and row("CLAIM", "20", m)["status"] == PARTLY
    assert "3 files could not be used" in row("STARD-AI", "20", m)["answer"] and row("STARD-AI", "20",
        m)["status"] == PARTLY
    assert "1 warning on the first screen" in row("TRIPOD+AI", "26",
                                           m)["answer"] and "0.52 (0.44 to 0.60)" in row("PROBAST+AI", "DE 2.2",
                                               m)["answer"]


def test_settings_change_the_answers_they_touch():
    m = full_metrics()
    plain, changed = Settings(), Settings(tune=True, augment=2, classifiers=["knn", "svm"],
                                          params={"svm": {"class_weight": "balanced"}}, weights="mine.pth")
    assert "none tuned" in row("TRIPOD+AI", "12c", m,
                               plain)["answer"] and "within each training part" in row("TRIPOD+AI", "12c", m,
                                   changed)["answer"]
    assert "no augmentation" in row("CLAIM", "9", m, plain)["answer"] and "2 altered copies" in row("CLAIM", "9", m,
        changed)["answer"]
    assert "nothing to recalibrate" in row("TRIPOD+AI", "13", m,
                                           plain)["answer"] and "classes weighted in svm" in row("TRIPOD+AI", "13", m,
                                               changed)["answer"]
    led = [row("CLAIM", "38", m, s)["answer"] for s in (plain, changed)]
    assert led[0].startswith("Linear SVM (cross-validated): balanced accuracy 90.0 % (85.0 to 94.0)")
    assert led[1].startswith("K-nearest neighbours (cross-validated): balanced")
    assert row("CLAIM", "24", m, changed)["status"] == PARTLY and "mine.pth" not in row("CLAIM", "24", m,
        changed)["answer"]
    assert "only within" in row("CLAIM", "27", m, plain)["answer"].lower() and "No models are combined" in row("CLAIM",
        "27", m, changed)["answer"]


def test_drawn_images_are_said_to_be_drawn_and_claim_no_people():
    m = full_metrics()
    m["dataset"]["synthetic"] = True
    for name, item in (("STARD-AI", "6"), ("CLAIM", "11"), ("TRIPOD+AI", "5a")):
        assert "rawn" in row(name, item, m)["answer"] and row(name, item, m)["status"] == ANSWERED
    assert row("STARD-AI", "9", m)["answer"].startswith("Nothing to tell of drawn images")


def test_more_than_two_classes_have_answers_too():
    m = full_metrics()
    m["dataset"] |= {"classes": ["a", "b", "c"], "positive": None, "counts": {"a": 65, "b": 65, "c": 65}}
    m["holdout"]["models"] = {"svm": {"accuracy": {"value": 0.9, "ci": [0.8, 0.95]}, "auroc": {"value": None}}}
    del m["calibration"], m["thresholds"]
    assert "a, b and c apart" in row("CLAIM", "4", m)["answer"]
    assert "averaged over the classes" in row("CLAIM", "28", m)["answer"] and "highest score" in row("STARD-AI", "15c",
        m)["answer"]
    m["cv"]["models"] = {"svm": {"balanced_accuracy": {"value": 0.9, "ci": [0.8, 0.95]}, "auroc": {"value": None}}}
    assert "AUROC undefined" in row("CLAIM", "38", m)["answer"] and "TP" not in row("STARD-AI", "30", m)["answer"]


def test_the_summary_counts_what_the_table_holds():
    m = full_metrics()
    t, n = answer(CHECKLISTS, m), summary_table(m)
    assert n["items"].tolist() == [52, 44, 48, 24] and (n[list(STATUSES)].sum(axis=1) == n["items"]).all()
    assert n.loc["CLAIM", ANSWERED] == ((t["checklist"] == "CLAIM") & (t["status"] == ANSWERED)).sum() == (answer(CLAIM,
        m)["status"] == ANSWERED).sum()
    page = checklists_html(m)
    assert (f"CLAIM: {n.loc['CLAIM', ANSWERED]} of 44 items answered by this run, {n.loc['CLAIM', PARTLY]} partly, "
            f"{n.loc['CLAIM', AUTHORS]} for the authors" in page)


class Tags(HTMLParser):
    "Open and close tags, and every link."

    def __init__(self):
        super().__init__()
        self.open, self.links, self.seen = [], [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.append(tag)
        self.links += [v for k, v in attrs if k in ("href", "src")]

    def handle_endtag(self, tag): assert self.open.pop() == tag


def test_the_page_escapes_every_text_and_links_only_within_itself():
    m = full_metrics()
    evil = '<script>x</script>"&'
    m["dataset"] |= {"name": evil, "classes": [evil, "normal"], "counts": {evil: 99, "normal": 96}, "positive": evil}
    m["features"]["backbone"] = evil
    m["audit"]["shortcuts"][0]["probe"] = evil
    tags = Tags()
    tags.feed(checklists_html(m, Settings(group=evil)))
    assert not tags.open and set(tags.seen) == {"p", "details", "summary", "div", "table", "thead", "tbody", "tr", "th",
                                                "td", "b", "a"}
    assert tags.seen.count("details") == 4 and tags.links and all(link.startswith("#") for link in tags.links)
    assert not re.search("https?:|www\\.", checklists_html(m))


GROUP = {"column": "sex", "group": "f", "judged": True, "p_adjusted": 0.01, "difference": {"value": -0.1}}
RATE = {"value": 0.9, "ci": [0.8, 0.95]}
ASKED = {  # section -> the answer, what the section is, what is said with it, and without it how to add it
    "subgroups": ("fairness", [GROUP], "worse than the rest: sex f", "--set subgroups=sex,age"),
    "sites": ("heterogeneity", {"all": {"left_out": {"balanced_accuracy": RATE}}, "sites": [{"left_out": {}}] * 3},
              "3 sites left out in turn: balanced accuracy 90.0 %", "--set site=COLUMN"),
    "learning_curve": ("sample_size", {"units": "patients", "sample_size": {"total": 210, "half_width": 0.05}},
                       "need about 210 patients", "--set learning_curve=5"),
    "use": ("representative", {"prevalence": 0.02, "models": {"svm": {"ppv": RATE, "npv": RATE}}},
            "Where 2 % are positive: PPV 90.0 % (80.0 to 95.0), NPV", "--set prevalence=0.02"),
    "suspect_labels": ("outcome", {"n": 195, "listed": 8, "expected_flips": {"value": 9.6, "ci": [4, 16]}},
                       "8 of 195 labels are listed for a second look; about 10 may be wrong (4 to 16)",
                       "not searched for errors: that takes audit=true"),
}


@pytest.mark.parametrize("section", ASKED)
def test_fairness_sites_sample_size_prevalence_and_labels_are_answered_or_said_to_be_missing_and_how_to_add(section):
    key, content, said, how = ASKED[section]
    plain, m = full_metrics(), full_metrics()
    (m["audit"] if section == "suspect_labels" else m)[section] = content
    (_, answered, _), (_, missing, _) = (ANSWERS[key](x, Settings()) for x in (m, plain))
    assert said in answered and how not in answered
    assert how in missing and said not in missing and missing.endswith(".")
    assert any(i.answer == key for c in CHECKLISTS for i in c.items)


def test_groups_that_are_all_too_small_are_not_said_to_be_left_out():
    m = full_metrics() | {"subgroups": [{"column": "sex", "group": "f", "judged": False}]}
    assert "too small to be judged" in row("TRIPOD+AI", "14", m)["answer"]
