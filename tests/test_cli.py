"""The other commands, as a user calls them."""

import json
import re
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import leuknb as leuknb_apart
from conftest import leuknb_here as leuknb
from PIL import Image


def test_help_and_version_are_quick_and_end_with_0(tmp_path):
    assert leuknb_apart("--help", cwd=tmp_path).returncode == 0
    version = leuknb_apart("--version", cwd=tmp_path)
    assert version.returncode == 0 and version.stdout.startswith("leuknb 0.")


def test_a_mistyped_command_or_option_ends_with_2_and_no_traceback(tmp_path):
    for call in (["reprot"], ["report", "--nonsense"], ["extract"], ["report", "--out"], []):
        done = leuknb(*call, cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr, call


def test_synth_draws_a_folder_that_extract_reads_back(tmp_path):
    assert leuknb("synth", "smears", "--n", 12, "--set", "images_per_patient=2", cwd=tmp_path).returncode == 0
    assert len(pd.read_csv(tmp_path / "smears" / "metadata.csv")) == 12
    again = leuknb("synth", "smears", cwd=tmp_path)
    assert again.returncode == 2 and "exists" in again.stderr
    done = leuknb("extract", "smears", "--out", "features", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "features" / "features.parquet")
    assert list(table.columns[:3]) == ["file_name", "label", "f0"] and len(table) == 12
    assert leuknb("extract", "smears", "--out", "features", cwd=tmp_path).returncode == 2
    assert leuknb("extract", "smears", "--out", "features", "--force", cwd=tmp_path).returncode == 0


def pictures(folder, *names):
    "Write images that nobody has seen before."
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng().integers(0, 256, (40, 40, 3), np.uint8)).save(folder / name)


NO_LABEL = ["", "", ""]


@pytest.mark.parametrize("names, labels", [
    (["a.png", "b.png", "c.png"], NO_LABEL),
    (["smears/a.png", "b.png", "smears/c.png"], NO_LABEL),
    (["patient1/a.png", "patient1/b.png", "patient2/c.png"], NO_LABEL),
    (["train/a.png", "train/b.png", "test/c.png"], NO_LABEL),
    (["normal/a.png", "normal/b.png", "normal/c.png"], ["normal"] * 3),
    (["x/a.png", "y/b.png", "z/c.png"], ["x", "y", "z"]),
    (["x/a.png", "x/b.png", "y/c.png"], ["x", "x", "y"])])
def test_extract_asks_for_no_class_that_it_does_not_need(tmp_path, names, labels):
    pictures(tmp_path / "set", *names)
    done = leuknb("extract", "set", "--out", "f", "--set", "image_size=64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "f" / "features.parquet").set_index("file_name").loc[names]
    assert table["label"].tolist() == labels and np.isfinite(table.drop(columns="label").to_numpy()).all()
    if labels != ["x", "y", "z"]: assert leuknb("report", "set", cwd=tmp_path).returncode == 2


def test_extract_reads_a_table_without_classes_and_leaves_out_what_a_labelled_one_leaves_without(tmp_path):
    pictures(tmp_path / "set", "a.png", "b.png", "c.png")
    table = tmp_path / "set" / "metadata.csv"
    for text, named in (("file_name,age\na.png,40\nb.png,41\nc.png,42\n", ["a.png", "b.png", "c.png"]),
                        ("file_name,label\na.png,x\nb.png,y\nc.png,\n", ["a.png", "b.png"])):
        table.write_text(text)
        done = leuknb("extract", "set", "--out", "f", "--force", "--set", "image_size=64", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert pd.read_parquet(tmp_path / "f" / "features.parquet")["file_name"].tolist() == named
    wrong = leuknb("extract", "set", "--out", "g", "--set", "label=diagnosis", cwd=tmp_path)
    assert wrong.returncode == 2 and "diagnosis" in wrong.stderr


WATCHED = """import sys, time
from leuknb.cli import main
try: main(sys.argv[1:])
except SystemExit as e: assert not e.code, e.code
print(time.process_time(), *(m for m in ("torch", "torchvision", "timm", "sklearn", "scipy.stats") if m in sys.modules))
"""
CELL = ["--set", "layers=blocks.2,blocks.4", "--set", "pooling=covariance", "--set", "region=cell", "--set",
        "frames=cell", "--set", "image_size=64", "--set", "device=cpu"]


@pytest.mark.parametrize("call", [
    ["--help"], ["doctor"], ["datasets"], ["backbones"], ["cache", "info"], ["inspect", "set"],
    ["extract", "set", "--out", "f", "--force", "--set", "image_size=64", "--set", "device=cpu"],
    ["extract", "set", "--out", "f", "--force", *CELL]])
def test_what_computes_nothing_or_has_its_graph_answers_in_two_processor_seconds(tmp_path, call):
    def run():
        pictures(tmp_path / "set", "x/a.png", "x/b.png", "y/c.png")
        done = subprocess.run([sys.executable, "-c", WATCHED, *call], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seconds, *heavy = done.stdout.splitlines()[-1].split()
        return float(seconds), heavy

    run()  # names of backbones and graphs are written down the first time
    runs = [run() for _ in range(3)]
    assert not any(heavy for _, heavy in runs), runs
    assert min(seconds for seconds, _ in runs) < 2, runs


def test_backbones_lists_the_offline_default_as_ready_and_refuses_an_unknown_name(tmp_path):
    done = leuknb("backbones", cwd=tmp_path, COLUMNS="200")
    assert done.returncode == 0 and "efficientnet_lite0" in done.stdout and "alexnet" in done.stdout
    wrong = leuknb("backbones", "alexnett", cwd=tmp_path)
    assert wrong.returncode == 2 and "alexnet" in wrong.stderr


def test_doctor_names_versions_and_device(tmp_path):
    done = leuknb("doctor", cwd=tmp_path)
    assert done.returncode == 0 and all(word in done.stdout for word in ("torch", "device", "rocrate")), done.stdout


def test_audit_ends_with_3_when_something_must_be_looked_at_and_writes_its_files(tmp_path):
    assert leuknb("synth", "clean", "--n", 40, "--set", "images_per_patient=2", cwd=tmp_path).returncode == 0
    assert leuknb("synth", "copied", "--n", 40, "--set", "images_per_patient=2", "--set", "duplicates=6",
                  cwd=tmp_path).returncode == 0
    clean, copied = (leuknb("audit", name, "--out", f"found-{name}", "--set", "permutations=50", cwd=tmp_path)
                     for name in ("clean", "copied"))
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert copied.returncode == 3 and "copies of another" in copied.stdout
    assert {p.name for p in (tmp_path / "found-copied").iterdir()} == {"audit.html", "audit.json", "duplicates.csv",
                                                                      "labels.csv"}
    assert len(pd.read_csv(tmp_path / "found-copied" / "duplicates.csv").query("copy_of == copy_of")) == 6
    page = (tmp_path / "found-copied" / "audit.html").read_text()
    assert "Research use only" in page and "ynthetic" in page and "http" not in page.replace("http-equiv", "")
    assert leuknb("audit", "copied", "--out", "found-copied", cwd=tmp_path).returncode == 2


def test_a_published_table_is_checked_and_an_impossible_row_ends_with_3(tmp_path):
    (tmp_path / "good.csv").write_text("model,accuracy,sensitivity\nSVM,97.44,95.00\n")
    (tmp_path / "bad.csv").write_text("model,accuracy,sensitivity\nSVM,97.44,95.00\nother,91.30,90.00\n")
    assert leuknb("audit", "--table", "good.csv", "--n-pos", 20, "--n-neg", 19, cwd=tmp_path).returncode == 0
    bad = leuknb("audit", "--table", "bad.csv", "--n-pos", 20, "--n-neg", 19, cwd=tmp_path)
    assert bad.returncode == 3 and "inconsistent" in bad.stdout
    assert leuknb("audit", "--table", "absent.csv", cwd=tmp_path).returncode == 2
    assert leuknb("audit", cwd=tmp_path).returncode == 2


def test_a_model_is_trained_asked_and_exported_from_the_command_line(tmp_path):
    small = ["--set", "synthetic.n_images=60", "--set", "audit=false", "--set",
             "image_size=64", "--set", "sensitivity=0.8"]
    done = leuknb("train", "synthetic", "--out", "model", *small, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "model/CARD.md\n", done.stderr
    assert re.search(r"sensitivity \d+\.\d % \(", done.stderr)
    assert "leuknb predict model new_images --html" in done.stderr
    card = (tmp_path / "model" / "CARD.md").read_text()
    assert "ynthetic" in card and "to find 80 % of abnormal" in card
    assert leuknb("train", "synthetic", "--out", "model", *small, cwd=tmp_path).returncode == 2
    assert leuknb("synth", "smears", "--n", 6, cwd=tmp_path).returncode == 0
    broken = tmp_path / "smears" / "broken.png"
    broken.write_bytes(b"no image")
    done = leuknb("predict", "model", "smears/normal", "smears/abnormal", broken, "--out", "answers.csv", cwd=tmp_path)
    assert done.returncode == 0 and "research use only" in done.stderr, done.stderr
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert len(answers) == 7 and answers[answers.file_name.str.endswith("broken.png")].verdict.tolist() == ["not read"]
    shown = leuknb("predict", "model", broken, cwd=tmp_path)
    assert shown.returncode == 1 and "not read" in shown.stdout and "no image could be read" in shown.stderr
    strange = tmp_path / "<script>alert(1)<b>.png"
    strange.write_bytes(b"no image")
    page = leuknb("predict", "model", "smears/normal", strange, "--html", "answers.html", cwd=tmp_path)
    assert page.returncode == 0 and page.stdout.endswith("\nanswers.html\n"), page.stderr
    assert len(page.stdout.splitlines()) == 1 + 3 + 1 + 1  # the heading, a line an image, the page
    written = (tmp_path / "answers.html").read_text()
    assert "<script>alert(1)" not in written and "&lt;script&gt;alert(1)&lt;b&gt;.png" in written
    assert "not a medical device" in written and "data:image/jpeg" in written
    again = leuknb("predict", "model", "smears/normal", "--html", "answers.html", cwd=tmp_path)
    assert again.returncode == 2 and "--force" in again.stderr and not again.stdout
    assert leuknb("predict", "model", "smears", "--out", "answers.csv", cwd=tmp_path).returncode == 2
    assert leuknb("predict", "nowhere", "smears", cwd=tmp_path).returncode == 2
    done = leuknb("export", "model", "--onnx", "model.onnx", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "model.onnx").stat().st_size > 1_000_000, done.stderr


def test_cache_tells_what_it_holds_and_prune_removes_only_what_is_old(tmp_path):
    home = {"LEUKNB_HOME": str(tmp_path / "home")}
    assert leuknb("extract", "synthetic", "--out", "f", "--set", "synthetic.n_images=4", "--set",
                  "synthetic.images_per_patient=1", "--set", "image_size=64", cwd=tmp_path, **home).returncode == 0
    told = leuknb("cache", "info", cwd=tmp_path, COLUMNS="200", **home)
    assert told.returncode == 0 and "features" in told.stdout and str(tmp_path / "home") in told.stdout.replace("\n",
        "")
    kept = leuknb("cache", "prune", "--days", 1, cwd=tmp_path, **home)
    assert kept.returncode == 0 and kept.stdout.startswith("0 removed")
    assert "would be removed" in leuknb("cache", "prune", "--days", 0, "--dry-run", cwd=tmp_path, **home).stdout
    assert list((tmp_path / "home" / "features").glob("*/*"))
    assert leuknb("cache", "prune", "--days", 0, cwd=tmp_path, **home).returncode == 0
    assert not list((tmp_path / "home" / "features").glob("*/*"))
    assert leuknb("cache", "prune", cwd=tmp_path, LEUKNB_HOME=str(tmp_path)).returncode == 2


def test_adapt_writes_weights_that_reports_take_and_that_know_their_images(tmp_path):
    few = [o for s in ("steps=4", "image_size=64", "train_from=blocks.6", "batch_size=8", "validation=0.25")
           for o in ("--set", s)]
    assert leuknb("synth", "smears", "--n", 40, "--set", "images_per_patient=2", cwd=tmp_path).returncode == 0
    done = leuknb("adapt", "smears", "--out", "w.safetensors", *few, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "w.safetensors" and "balanced accuracy" in done.stderr
    assert "Research use only" in (tmp_path / "w.md").read_text(encoding="utf-8")
    audited = leuknb("audit", "smears", "--set", "weights=w.safetensors", "--set", "permutations=20", "--out", "found",
                     cwd=tmp_path)
    assert audited.returncode == 3 and "LKB106: 40 of the 40 images" in audited.stdout
    assert "LKB106" in (tmp_path / "found" / "audit.html").read_text(encoding="utf-8")
    for call, words in ((["smears", "--out", "w.safetensors"], "--force"),
                        (["smears", "--out", "w.pth"], "safetensors"),
                        (["smears", "--out", "v.safetensors", "--from", "efficientnet_lite"], "mean 'efficientnet_l"),
                        (["smears", "--out", "v.safetensors", "--set", "stepz=3"], "steps")):
        wrong = leuknb("adapt", *call, cwd=tmp_path)
        assert wrong.returncode == 2 and words in wrong.stderr and "Traceback" not in wrong.stderr, call


def test_the_end_of_a_report_says_the_number_and_opens_the_page_only_when_asked(tmp_path, small_report, monkeypatch):
    shutil.copytree(small_report.folder, tmp_path / "made")
    made, opened = Path("made"), []
    monkeypatch.setattr("leuknb.reporting.run.run_report", lambda *how, **more: made)
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or len(opened) == 1)
    plain = leuknb("report", cwd=tmp_path)
    assert plain.returncode == 0 and plain.stdout == "made/report.html\n" and not opened, plain.stderr
    headline = json.loads((tmp_path / "made" / "metrics.json").read_text())["headline"]
    value, (low, high) = headline["estimate"]["value"], headline["estimate"]["ci"]
    assert f"balanced accuracy {100 * value:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f} %;" in plain.stderr
    assert all(w["code"] in plain.stderr for w in headline["warnings"])
    assert "next: " in plain.stderr and "\n  leuknb report my_images" in plain.stderr
    asked = leuknb("report", "--open", cwd=tmp_path)
    assert asked.returncode == 0 and opened == [(tmp_path / "made" / "report.html").as_uri()]
    assert "no browser" not in asked.stderr
    assert "no browser took the page: open made/report.html" in leuknb("report", "--open", cwd=tmp_path).stderr
