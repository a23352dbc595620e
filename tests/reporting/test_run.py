"""Whole reports through the command line, as a user runs them: complete, reproducible, self-contained, refused or
told in words.
"""

import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import DRAWN, leuknb, leuknb_here, needs_rocrate, needs_weasyprint, same_results, SMALL, WORDS
from PIL import Image

from leuknb.core import InputError
from leuknb.settings import make_settings
from leuknb.evaluation.metrics import METRICS
from leuknb.evaluation.schemes import holdout_metrics, splits_metrics
from leuknb.reporting.html import policy
from leuknb.reporting.study import DATASET_COLUMNS
from leuknb.reporting import run as running
from leuknb.reporting.run import report_notebook, run_report, RunFailed, to_html, write_pdf

@pytest.fixture(scope="module")
def run(small_report):
    "The small report of the session: (what it printed, its page)."
    return small_report.stdout, small_report.folder / "report.html"


def test_the_last_line_is_the_report_and_the_run_folder_is_complete(run):
    printed, page = run
    assert Path(printed.strip().splitlines()[-1]).parts[-3:] == ("runs", "synthetic", "report.html") and page.is_file()
    needs_rocrate()
    names = {p.name for p in page.parent.iterdir()}
    assert names == {"report.html", "report.ipynb", "metrics.json", "predictions.csv", "dataset.csv", "labels.csv",
                     "patients.csv", "run.json", "ro-crate-metadata.json", "figures"}
    figures = {p.name for p in (page.parent / "figures").iterdir()}
    assert {f.removesuffix(".png") for f in figures if f.endswith(".png")} == {f.removesuffix(".svg") for f in figures
        if f.endswith(".svg")}
    assert {"bars.png", "lottery.png", "workflow.png", "network.png", "confusions.png", "roc.png", "examples.png",
            "map.png"} <= figures
    assert not [p for p in page.parent.parent.iterdir() if p.name.startswith(".")], "nothing is left beside the run"


def test_the_page_asks_nothing_of_the_outside_and_says_what_it_is(run):
    page = run[1].read_text()
    assert not re.search(r"https?://", page)
    assert "Research use only" in page and "Synthetic data" in page and "default-src 'none'" in page
    assert page.index("Synthetic data") < page.index("<p>A smear under the microscope")
    assert policy() in page and [s for s in re.findall(r"<script[^>]*>", page)
                                 if 'type="application/json"' not in s] == [
                                     "<script>"], "one script, allowed by its hash; the others are data"


def test_the_page_starts_with_the_reported_numbers_is_small_and_tells_every_picture(run):
    page = BeautifulSoup(run[1].read_text(), "html.parser")
    reported = json.loads((run[1].parent / "metrics.json").read_text())["holdout"]["models"]["svm"]
    for name in ("tp", "fn", "fp", "tn"): assert int(page.find(id=f"count-{name}").text) == reported[name]
    for name in ("sensitivity", "specificity", "precision", "accuracy", "f1"):
        assert float(page.find(id=f"rate-{name}")["data-value"]) == reported[name]["value"]
    test = pd.read_csv(run[1].parent / "predictions.csv").query("scheme == 'holdout' and model == 'svm'")
    assert len(page.select("#images-table img.thumb")) == len(test) and run[1].stat().st_size < 5e6
    told = {figure["id"].removeprefix("figure-"): figure.img["alt"] for figure in page.select("figure[id^=figure-]")}
    assert f"{reported['tp']} found, {reported['fn']} missed, {reported['fp']} false alarms" in told[
        "confusions"] and min(map(len, told.values())) > 30
    assert all(image.get("alt") for image in page.find_all("img"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser_has_no_serious_fault_in_light_and_dark(run, browser, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright",
                              reason="axe-playwright-python is not installed").Axe()
    tab, wrong = browser.new_page(color_scheme=scheme, viewport={"width": 1400, "height": 900}), []
    tab.on("console", lambda m: wrong.append(m.text))
    tab.on("pageerror", lambda e: wrong.append(str(e)))
    tab.goto(run[1].as_uri())
    found = axe.run(tab).response["violations"]
    tab.close()
    assert [(v["id"], v["nodes"][0]["target"]) for v in found
            if v["impact"] in ("serious", "critical")] == [] and not wrong


@pytest.mark.long
def test_a_pdf_of_the_run_lies_beside_its_page(run, tmp_path):
    needs_weasyprint()
    shutil.copy(run[1], tmp_path / "report.html")
    assert write_pdf(tmp_path) == tmp_path / "report.pdf" and (tmp_path
                                                               / "report.pdf").read_bytes().startswith(
                                                                   b"%PDF") and 1e5 < (tmp_path
                                                                       / "report.pdf").stat().st_size < 5e6
    with pytest.raises(InputError, match="no report.html"): write_pdf(tmp_path / "elsewhere")


def test_metrics_follow_schema_2_and_can_be_recomputed_from_the_predictions(run):
    folder = run[1].parent
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["schema"] == 2 and metrics["dataset"]["synthetic"] is True
    assert {"dataset", "features", "holdout", "splits", "cv", "comparisons", "calibration", "audit",
            "paper"} <= set(metrics)
    predictions = pd.read_csv(folder / "predictions.csv", dtype={"group": str, "label": str, "predicted": str})
    assert list(predictions.columns) == ["file_name", "label", "group", "model", "scheme", "split", "score",
                                         "predicted"]
    again = json.loads(json.dumps(holdout_metrics(predictions, "abnormal", metrics["dataset"]["n_images"], 0),
                                  default=float))
    for model, found in metrics["holdout"]["models"].items():
        assert {k: again["models"][model][k] for k in ("tp", "fn", "fp", "tn")} == {k: found[k]
            for k in ("tp", "fn", "fp", "tn")}
        for key in METRICS:
            mine = again["models"][model][key]
            assert (mine["value"], mine.get("ci"), mine["n"]) == (pytest.approx(found[key]["value"]),
                pytest.approx(found[key].get("ci")), found[key]["n"])
    assert splits_metrics(predictions,
                          "abnormal")["models"]["svm"]["accuracy"]["mean"] == pytest.approx(
                              metrics["splits"]["models"]["svm"]["accuracy"]["mean"])
    assert list(pd.read_csv(folder / "dataset.csv").columns) == DATASET_COLUMNS
    facts = json.loads((folder / "run.json").read_text())
    assert {"settings", "versions", "fingerprint", "git_commit", "timings"} <= set(facts)
    made = metrics["splits"]["repetitions"], metrics["cv"]["repetitions"]
    assert [(m["chosen"], m["n"]) for m in made] == [("setting", SMALL["n_splits"]), ("setting", SMALL["cv_repeats"])]


def test_what_a_step_announces_is_said_once_and_the_bar_tells_the_time_left(tmp_path):
    said, lines = [], tmp_path / "lines"
    watch = running._Watch(lines, said.append)
    lines.write_text('{"say": "about 3 min"}\n{"what": "fitting", "n": 1, "total": 5}\n{"what": "half')
    watch.read()
    watch.read()
    assert said == ["about 3 min"] and watch.step[0] == "fitting"

    class Bar:
        def update(self, task, total, completed, how): said.append((total, completed, how))

    watch.bar, watch.task, watch.section = Bar(), 0, "Fitting"
    watch.step = "fitting", watch.step[1] - 100, 1
    lines.write_text(lines.read_text().replace("half", 'fitting", "n": 3, "total": 5}\n'))
    watch.read()
    assert said[-1][:2] == (5, 3) and re.fullmatch(r"fitting 3/5, 1:4\d left", said[-1][2])


@pytest.mark.long
def test_a_rerun_on_one_thread_and_without_a_store_gives_the_same_bytes_and_says_so(run, tmp_path):
    done = leuknb("rerun", run[1].parent, "--check", "--out", "again", cwd=tmp_path, OMP_NUM_THREADS="1",
                  LEUKNB_HOME=str(tmp_path / "home"), OPENBLAS_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "the same: metrics.json" in done.stdout and "no version changed" in done.stdout
    same_results(run[1].parent, tmp_path / "again")


def test_an_existing_folder_is_refused_and_only_a_run_folder_is_replaced_by_force(run, tmp_path):
    target = tmp_path / "mine"
    shutil.copytree(run[1].parent, target)
    refused = leuknb_here("report", "--out", target, cwd=tmp_path)
    assert refused.returncode == 2 and "--force" in refused.stderr and "Traceback" not in refused.stderr
    other = tmp_path / "thesis"
    other.mkdir(); (other / "chapter.txt").write_text("years of work")
    forced = leuknb_here("report", "--out", other, "--force", cwd=tmp_path)
    assert forced.returncode == 2 and (other / "chapter.txt").read_text() == "years of work"


def broken_report(tmp_path, source):
    "The report notebook with a failing cell in the place of its first figure."
    nb = nbformat.read(report_notebook(), 4)
    at = next(i for i, c in enumerate(nb.cells) if c.source.startswith("# Reading"))
    nb.cells[at].source = source
    nbformat.write(nb, tmp_path / "report.ipynb")
    return tmp_path / "report.ipynb"


def test_a_failing_cell_keeps_the_partial_notebook_and_says_what_failed_in_two_lines(tmp_path):
    with pytest.raises(RunFailed) as caught:
        run_report(make_settings(**SMALL), tmp_path / "out",
                   notebook=broken_report(tmp_path, "# Reading the images\n1 / 0"))
    first, second = str(caught.value).split("\n")
    assert "Reading the images" in first and "ZeroDivisionError" in first and caught.value.exit_code == 1
    kept = Path(second.split("the partial notebook is ")[1])
    assert any(o.output_type == "error" for c in nbformat.read(kept, 4).cells
               for o in c.get("outputs", [])) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("call", "words"), [
    ("report --set sede=3", ["sede", "seed"]), ("report --preset papr", ["papr", "paper"]),
    ("report --set seed", ["name=value"]), ("report no/such/folder", ["no/such/folder"]),
    ("extract synthetic --out made --set backbone=alexnett", ["alexnett", "alexnet"]),
    ("extract synthetic --out made --set layers=blocks.99", ["blocks.99"]),
    ("train synthetic --out made --set classifiers=smv", ["smv", "svm"])])
def test_a_users_mistake_ends_with_2_names_the_value_and_leaves_nothing(call, words, tmp_path):
    done = leuknb_here(*call.split(), *DRAWN, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and all(w in done.stderr for w in words), done.stderr
    assert not [p for p in tmp_path.rglob("*") if p.name != "runs"]


def test_the_paper_preset_without_weights_and_network_says_what_is_missing_and_what_to_do(tmp_path):
    done = leuknb_here("extract", "synthetic", "--out", "made", "--preset", "paper", *DRAWN, cwd=tmp_path,
                       TORCH_HOME=str(tmp_path / "torch"), http_proxy="http://127.0.0.1:9",
                       https_proxy="http://127.0.0.1:9")
    assert done.returncode == 2
    for word in ("alexnet-owt-7be5be79.pth", str(tmp_path / "torch"), "weights=", "efficientnet_lite0"):
        assert word in done.stderr, done.stderr


@pytest.mark.long
def test_the_paper_preset_runs_through_with_a_weights_file_of_random_values(tmp_path):
    import torch

    from leuknb.features.backbones import load_torchvision

    torch.manual_seed(0)
    torch.save(load_torchvision().models.alexnet().state_dict(), tmp_path / "random.pth")
    done = leuknb("report", "--preset", "paper", "--set", f"weights={tmp_path / 'random.pth'}", "--set", "n_splits=3",
                  "--set", "cv_repeats=0", "--set", "permutations=0", "--set", "cases=0", "--set",
                  "synthetic.n_images=24", "--set", "synthetic.images_per_patient=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "runs" / "synthetic" / "metrics.json").read_text())
    assert "explanations" not in metrics and metrics["features"]["backbone"] == "alexnet" and metrics["features"][
        "n_features"] == 4096 and metrics["features"]["image_size"] == 227
    assert set(metrics["holdout"]["models"]) == {"svm", "knn", "ensemble", "tree"} and "cv" not in metrics


def test_a_folder_with_three_classes_broken_files_and_hostile_names_is_reported_and_escaped(tmp_path):
    pixels = np.random.default_rng(0)
    for at, name in enumerate(("apple", "<b>pear", "plum")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(14):
            Image.fromarray(pixels.integers(0, 80 + 80 * at, (40, 50, 3),
                                            dtype=np.uint8)).save(tmp_path / "set" / name / f"{i}.png")
    (tmp_path / "set" / "plum" / "<img src=x onerror=alert(1)>.png").write_bytes(b"not an image")
    (tmp_path / "set" / "apple" / "empty.jpg").write_bytes(b"")
    done = leuknb("report", tmp_path / "set", *WORDS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs" / "set" / "report.html").read_text()
    assert ("<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;.png" in page and "empty.jpg" in page
            and "<b>pear" not in page)
    metrics = json.loads((tmp_path / "runs" / "set" / "metrics.json").read_text())
    assert metrics["dataset"]["n_skipped"] == 2 and len(metrics["dataset"]["classes"]) == 3 and metrics["dataset"][
        "synthetic"] is False
    assert set(metrics["holdout"]["models"]["svm"]["per_class"]) == {"apple", "<b>pear", "plum"}
    assert "Synthetic data" not in page


@pytest.mark.long
def test_truncated_files_are_named_with_the_reason_and_the_run_goes_on(real_data, tmp_path):
    for label in ("normal", "abnormal"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for file in sorted((real_data("blast195") / label).iterdir())[:20]:
            shutil.copy(file, tmp_path / "set" / label / file.name)
    for file in real_data("corrupt").glob("*.jpg"): shutil.copy(file, tmp_path / "set" / "normal" / file.name)
    done = leuknb("report", tmp_path / "set", *WORDS, "--set", "audit=false", "--set", "cases=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    skipped = pd.read_csv(tmp_path / "runs" / "set" / "dataset.csv").query("status == 'skipped'")
    assert {Path(f).name for f in skipped["file_name"]} == {f.name
                                                            for f in real_data("corrupt").glob("*.jpg")} and skipped[
                                                                "why"].str.len().min() > 5


def test_a_page_that_would_ask_an_outside_address_is_refused():
    from leuknb.core import LeuknbError

    for bad in ("![x](https://example.org/x.png)", "<script src='//cdn.example.org/x.js'></script>",
                "<a href=https://example.org>x</a>"):
        with pytest.raises(LeuknbError, match="outside"):
            to_html(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(bad)]), "t")
