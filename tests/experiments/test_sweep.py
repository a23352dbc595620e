"""Sweeps: combinations, runs side by side and resumed, failures named, and comparisons that are not fooled by having
looked at many.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from leuknb.reporting.run import report_notebook
from leuknb.experiments import compare
from leuknb.experiments import sweep
from leuknb.core import InputError
from leuknb.settings import make_settings, Settings
from leuknb.evaluation.comparison import compare_models, sentence
from leuknb.evaluation.paired_tests import mcnemar_exact

QUICK = make_settings(image_size=64, n_splits=0, cv_folds=3, cv_repeats=1, permutations=0, audit=False,
                      cases=0, classifiers=["svm"],
                      synthetic={"n_images": 24, "images_per_patient": 2})
OVER = [{"seed": 0}, {"seed": 1}, {"classifiers": ["nonsense"]}]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    "A sweep of two seeds and a member that must fail."
    told, out = [], tmp_path_factory.mktemp("swept") / "sweep"
    return sweep.run_sweep(QUICK, OVER, out, tell=told.append), told


def test_each_member_is_a_whole_report_the_failed_one_is_named_and_the_others_are_compared(swept):
    result, told = swept
    assert result.done == ["seed-0",
                           "seed-1"] and list(result.failed) == [
                               "classifiers-nonsense"] and "nonsense" in result.failed["classifiers-nonsense"]
    for name in result.done: assert all((result.folder / name / file).is_file() for file in sweep.RESULTS)
    assert any(line.startswith("classifiers-nonsense: failed:") for line in told)
    found = json.loads((result.folder / "sweep.json").read_text())
    assert [r["name"] for r in found["runs"]] == ["seed-0",
                                                  "seed-1"] and list(found["failed"]) == ["classifiers-nonsense"]
    assert found["ranking"][0]["seeds"] == 2 and not found["pairs"], "two seeds are one configuration"
    assert "classifiers-nonsense" in result.page.read_text() and "http://" not in result.page.read_text()
    assert not [p.name for p in result.folder.iterdir() if p.name.startswith(".")]


def test_a_member_is_the_run_that_the_report_alone_would_make(swept, tmp_path):
    from leuknb.reporting.run import run_report

    alone = run_report(QUICK.model_copy(update={"seed": 1}), tmp_path / "alone", tell=lambda line: None)
    for name in ("metrics.json", "predictions.csv", "dataset.csv"):
        assert (alone / name).read_bytes() == (swept[0].folder / "seed-1" / name).read_bytes()


def test_a_sweep_that_is_run_again_keeps_what_is_done_and_refuses_to_replace_other_settings(swept, monkeypatch):
    result, _ = swept
    before = {p: p.stat().st_mtime_ns for p in result.folder.glob("seed-*/*")}
    monkeypatch.setattr(sweep, "_here", lambda todo, out, workers: [(m, {"error": "again"}) for m in todo])
    again = sweep.run_sweep(QUICK, OVER, result.folder, tell=lambda line: None)
    assert again.kept == ["seed-0", "seed-1"] and not again.done and again.failed == {"classifiers-nonsense": "again"}
    assert {p: p.stat().st_mtime_ns for p in result.folder.glob("seed-*/*")} == before
    with pytest.raises(InputError, match="cv_folds"):
        sweep.run_sweep(QUICK.model_copy(update={"cv_folds": 4}), OVER, result.folder)
    with pytest.raises(InputError, match="run folder"): sweep.run_sweep(QUICK, OVER, result.folder / "seed-0")


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="dask.distributed is not installed")
def test_a_sweep_on_a_cluster_makes_the_same_results(swept, tmp_path):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        there = sweep.run_sweep(QUICK, [OVER[1], OVER[2]], tmp_path / "there", dask=cluster.scheduler_address,
                                tell=lambda line: None)
    assert there.done == ["seed-1"] and "nonsense" in there.failed["classifiers-nonsense"]
    here = swept[0].folder / "seed-1"
    for name in ("metrics.json", "predictions.csv", "dataset.csv"):
        assert (here / name).read_bytes() == (there.folder / "seed-1" / name).read_bytes()
    assert {p.name for p in here.iterdir()} == {p.name for p in (there.folder / "seed-1").iterdir()}


def test_the_kernels_of_members_listen_on_no_port(tmp_path):
    cell = nbformat.v4.new_code_cell(
        "import json, ipykernel\nfound = json.load(open(ipykernel.get_connection_file()))\nprint(found['transport'], "
        "found['ip'])")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell],
                                            metadata={"kernelspec": {"name": "python3", "display_name": "Python",
                                                "language": "python"}}), tmp_path / "a.ipynb")
    code = ("from leuknb.reporting.run import use_ipc; import papermill, sys; use_ipc(); "
            "print(papermill.execute_notebook('a.ipynb', sys.argv[1], progress_bar=False).cells[0].outputs[0].text)")
    side_by_side = [subprocess.Popen([sys.executable, "-c", code, f"{i}.ipynb"], cwd=tmp_path, stdout=subprocess.PIPE,
                                     text=True) for i in range(2)]
    told = [process.communicate(timeout=60)[0].split() for process in side_by_side]
    assert [t[0] for t in told] == ["ipc", "ipc"] and told[0][1] != told[1][1]
    assert {p.name for p in tmp_path.iterdir()} == {"a.ipynb", "0.ipynb",
                                                    "1.ipynb"}, "sockets lie in folders of their own, which are gone"


def test_a_process_that_dies_is_told_and_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_CALL", "import os; os.kill(os.getpid(), 9)")
    with sweep.Processes(1) as processes:
        assert "status -9" in processes.run("report", Settings(), tmp_path / "x")["error"]


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
       st.lists(st.sampled_from(["alexnet", "resnet18", "vgg16"]), min_size=1, max_size=3, unique=True))
def test_all_combinations_come_once_and_each_is_accepted_as_settings(seeds, networks):
    over = sweep.parse_over([f"backbone={','.join(networks)}", f"seed={', '.join(map(str, seeds))}"])
    assert over == [{"backbone": b, "seed": s} for b in networks for s in seeds]
    made = sweep.members(Settings(), over)
    assert [(m.settings.backbone, m.settings.seed) for m in made] == [(o["backbone"], o["seed"]) for o in over]
    assert len({m.name for m in made}) == len(made) and all("/" not in m.name and not m.name.startswith(".")
                                                            for m in made)


@pytest.mark.parametrize("pairs", [["sead=1"], ["seed"], ["=1"], ["seed="], ["seed=1,1"], ["seed=1", "seed=2"],
                                   ["out=a"]])
def test_what_cannot_be_gone_over_is_refused(pairs):
    with pytest.raises(InputError): sweep.parse_over(pairs)


def test_values_that_are_lists_or_parts_of_groups_are_understood():
    assert sweep.parse_over(['layers=["fc6","fc7"],[fc7],[]']) == [{"layers": ["fc6", "fc7"]}, {"layers": ["fc7"]},
        {"layers": []}]
    assert [m.settings.synthetic.difficulty for m in sweep.members(Settings(),
        sweep.parse_over(["synthetic.difficulty=0.1,0.9"]))] == [0.1, 0.9]
    assert sweep.parse_over(["weights=none,a.pth"]) == [{"weights": None}, {"weights": "a.pth"}]
    with pytest.raises(InputError, match="difficulti"): sweep.members(Settings(), [{"synthetic.difficulti": 1}])


def test_names_of_folders_stay_inside_and_apart():
    made = sweep.members(Settings(), [{"data": "../a"}, {"data": "--/a"}, {"data": "/etc"}])
    assert len({m.name for m in made}) == 3 and not any("/" in m.name or m.name.startswith((".", "-")) for m in made)


def test_members_that_share_features_are_extracted_once():
    made = sweep.members(Settings(), sweep.parse_over(["backbone=alexnet,resnet18", "seed=0,1"]))
    assert [s.backbone for s in sweep.shared_features(made)] == ["alexnet", "resnet18"]
    augmented = sweep.members(Settings(augment=1), sweep.parse_over(["seed=0,1"]))
    assert not sweep.shared_features(augmented), "augmented copies depend on the seed"


@pytest.mark.parametrize("over", ["stress=0,16", "finetune=head,last", "prevalence=0.1,0.2", "subgroups=[sex],[age]"])
def test_settings_that_shape_no_feature_share_them(over):
    assert len(sweep.shared_features(sweep.members(Settings(), sweep.parse_over([over])))) == 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory): return compare.read_runs(compare.example_runs(tmp_path_factory.mktemp("runs")))


def as_models(runs):
    "The predictions of several runs as those of models of one run, named by their configuration."
    return pd.concat([r.predictions[r.predictions.scheme == "cv"].assign(model=r.config) for r in runs])


def test_pairs_are_compared_by_the_test_of_a_report_with_all_pairs_counted(runs):
    first = [r for r in runs if r.seed == 0]
    found, wanted = compare.compare_pairs(first), compare_models(as_models(first), "cv")[:3]
    for p, w in zip(found, wanted, strict=True):
        assert {k: p[k] for k in w} == w and p["metric"] == "balanced_accuracy" and p["seeds"] == 1
        assert p["words"] == sentence(w)


def test_seeds_are_repeats_of_the_same_comparison(runs):
    found = compare.compare_pairs(runs)
    pooled = [r.predictions.assign(split=r.predictions["split"] + 8 * r.seed) for r in runs]
    wanted = compare_models(as_models([dataclasses.replace(r, predictions=t) for r, t in zip(runs, pooled)]), "cv")[:3]
    for p, w in zip(found, wanted, strict=True): assert {k: p[k] for k in w} == w and p["seeds"] == 2


def test_where_few_patients_decide_the_comparison_says_that_no_outcome_could_have_told(tmp_path):
    runs = compare.read_runs(compare.example_runs(tmp_path, 8, {"a": 3.0, "b": 2.5}, (0,)))
    found = compare.Comparison(runs, compare.rank(runs), compare.compare_pairs(runs), None, {}, [])
    assert found.pairs[0]["p_least"] >= 0.05
    assert "no outcome of the test could have told" in compare.sweep_words(found)[1]
    assert "no outcome could have told" in compare.pairs_table(found)["what it says"].iloc[0]


def test_each_run_is_told_by_patient_as_its_own_report_has_it(runs):
    found = compare.by_patient(runs)
    assert [m["run"] for m in found] == [r.name for r in runs]
    for m, r in zip(found, runs):
        assert m["patient"] == r.metrics["patients"]["models"]["svm"]["balanced_accuracy"]
        assert m["patient_auroc"] == r.metrics["patients"]["models"]["svm"]["auroc"] and m["off"] is None
    mixed = {**runs[0].metrics["patients"], "models": {}, "shares": {"models": {"svm": {"corrected": {
        k: {"value": 0.01, "ci": [-0.01, 0.03]} for k in ("bias", "lower", "upper")}}}}}
    one = dataclasses.replace(runs[0], metrics={**runs[0].metrics, "patients": mixed})
    told = compare.by_patient([one])[0]
    assert told["patient"] == mixed["votes"]["svm"]["balanced_accuracy"] and told["off"]["bias"]["value"] == 0.01
    table = compare.members_table(compare.Comparison([one], compare.rank([one]), [], None, {}, [told]))
    assert table["share of positive cells, off by"].tolist() == ["+1.0 (-1.0 to +3.0) points"]
    assert "by patient: AUROC" not in table
    bare = dataclasses.replace(runs[0], metrics={k: v for k, v in runs[0].metrics.items() if k != "patients"})
    assert compare.by_patient([bare]) == []


def test_runs_of_other_images_or_other_splits_are_never_paired(runs):
    other = dataclasses.replace(runs[-1], metrics={**runs[-1].metrics,
                                                   "dataset": {**runs[-1].metrics["dataset"],
                                                               "fingerprint": "another"}}, config="elsewhere")
    found = compare.compare_pairs([runs[0], other])
    assert not found and compare.price_of_picking([runs[0], other]) is None
    shuffled = runs[2].predictions.assign(split=lambda t: (t["split"] * 3 + 1) % 8)
    assert not compare.compare_pairs([runs[0], dataclasses.replace(runs[2], predictions=shuffled)])
    assert not compare.compare_pairs([runs[0], dataclasses.replace(runs[3])]), "another seed has other splits"


def test_without_cross_validation_runs_are_compared_on_their_holdout(runs):
    bare = [dataclasses.replace(r, predictions=r.predictions[r.predictions.scheme == "holdout"].assign(group=""))
            for r in runs if r.seed == 0]
    assert compare.scheme_of(bare) == "holdout"
    p = compare.compare_pairs(bare)[0]
    right = [(r.predictions.sort_values("file_name").predicted
              == r.predictions.sort_values("file_name").label).to_numpy() for r in bare]
    assert p["test"] == "mcnemar_exact" and p["p"] == pytest.approx(mcnemar_exact(int((right[0] & ~right[1]).sum()),
        int((~right[0] & right[1]).sum())))
    ranked = compare.rank(bare)
    assert sorted(ranked["accuracy"]) == sorted(r.mean() for r in right)
    assert ranked["balanced_accuracy"].is_monotonic_decreasing


def test_more_seeds_do_not_count_as_more_patients(runs):
    both, first = compare.rank(runs), compare.rank([r for r in runs if r.seed == 0])
    width = lambda t: (t["balanced_accuracy_high"] - t["balanced_accuracy_low"]).mean()
    assert width(both) > 0.8 * width(first)


def test_the_price_of_picking_agrees_with_the_plain_way_and_vanishes_for_twins():
    draw = np.random.default_rng(3)
    right, groups = draw.random((60, 5)) < 0.7, np.repeat(np.arange(20), 3)
    found = compare.best_of_many(right, groups, 2000, 1)
    values = []
    for _ in range(2000):
        drawn = draw.integers(20, size=20)
        inside = np.concatenate([np.flatnonzero(groups == g) for g in drawn])
        outside = np.flatnonzero(~np.isin(groups, drawn))
        means = right[inside].mean(0)
        values.append(right[outside][:, means > means.max() - 1e-12].mean())
    assert found["corrected"] == pytest.approx(np.mean(values), abs=0.01) and found["naive"] == right.mean(0).max()
    label = np.repeat(np.arange(20) < 8, 3)  # balanced accuracy: the mean of what the classes have
    both = compare.best_of_many(right, groups, 500, 1, label)
    assert both["naive"] == pytest.approx(max((right[label].mean(0) + right[~label].mean(0)) / 2))
    alone = compare.best_of_many(right, groups, 500, 1, np.arange(60) % 2)
    assert alone["naive"] == found["naive"]  # classes of one size: accuracy
    twins = compare.best_of_many(right[:, [0, 0, 0]], groups, 500)
    assert abs(twins["optimism"]) < 0.01 and twins["picked"] == pytest.approx([1 / 3] * 3)


def test_run_folders_that_are_torn_or_missing_are_named(tmp_path):
    with pytest.raises(InputError, match="holds no run folder"): compare.read_runs(tmp_path)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text("{")
    with pytest.raises(InputError, match="torn is no run folder"): compare.read_runs(tmp_path)


def test_a_class_called_NA_survives_being_read(tmp_path):
    folder = compare.example_runs(tmp_path, 10, {"a": 3.0}, (0,))
    path = next(folder.glob("*/predictions.csv"))
    path.write_text(path.read_text().replace("normal", "NA").replace("abNA", "abnormal"))
    assert set(compare.read_runs(folder)[0].predictions["label"]) == {"NA", "abnormal"}


def test_the_table_of_a_sweep_holds_plain_numbers(swept):
    t = pd.read_csv(swept[0].folder / "sweep.csv")
    assert {"rank", "configuration", "accuracy", "accuracy_low", "accuracy_high",
            "auroc"} <= set(t) and t["accuracy"].between(0, 1).all()


def test_the_comparison_notebook_runs_by_hand_with_its_defaults():
    cell = next(c for c in nbformat.read(Path(report_notebook("sweep")), 4).cells
                if "parameters" in c.metadata.get("tags", []))
    scope = {}
    exec(cell.source, scope)  # noqa: S102
    assert {k: v for k, v in scope.items() if not k.startswith("__")} == {"folder": None, "names": None, "failed": {}}


def test_a_folder_of_an_older_schema_is_named_with_the_command_that_makes_it_anew(tmp_path):
    folder = compare.example_runs(tmp_path, n_patients=12, gains={"network a": 2.0}, seeds=(0,)) / "network-a_seed-0"
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "schema": 1}))
    with pytest.raises(InputError,
                       match="network-a_seed-0 was written by an older leuknb.*make it anew with leuknb report .*--out "
                             ".*--force"):
        compare.read_runs(tmp_path)
