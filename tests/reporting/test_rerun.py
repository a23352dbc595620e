"""A run made again: the images are checked before any time is spent, the verdict names what differs, and a script can
tell by the exit status. The run itself is stood in for by a copy; tests/reporting/test_run.py makes a real one.
"""

import json
import shutil
from pathlib import Path

import pytest
from conftest import leuknb_here, same_results

import leuknb
from leuknb.core import InputError
from leuknb.data.datasets import load_dataset
from leuknb.data.synthetic import write_smears
from leuknb.reporting import rerun as module
from leuknb.reporting.rerun import compare_runs, rerun
from leuknb.settings import make_settings, SyntheticSettings


@pytest.fixture
def made(small_report, monkeypatch):
    "The small report, and a list of the (settings, folder) that a rerun asked for; each is stood in for by a copy."
    asked = []

    def copied(settings, out, force, tell):
        asked.append((settings, Path(out)))
        return Path(shutil.copytree(small_report.folder, out))

    monkeypatch.setattr(module, "run_report", copied)
    monkeypatch.setenv("LEUKNB_HOME", str(small_report.home))
    return small_report.folder, asked


def test_a_rerun_asks_for_the_settings_of_the_run_and_tells_that_the_same_came_out(made, tmp_path):
    folder, asked = made
    done = leuknb_here("rerun", folder, "--check", "--out", "again", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("the same: metrics.json, predictions.csv and dataset.csv")
    assert done.stdout.splitlines()[-1] == "again/report.html"
    assert done.stderr.splitlines()[0].startswith("linear SVM: balanced accuracy"), "it ends as a report does"
    assert "sensitivity (abnormal called so)" in done.stderr
    ours = json.loads((folder / "run.json").read_text())["settings"]
    assert asked[0][0] == make_settings(**ours) and ours["synthetic"]["n_images"] == 40
    same_results(folder, tmp_path / "again")
    assert leuknb.rerun(leuknb.Run(folder), out=tmp_path / "third").same


def changed(folder: Path, name: str, edit) -> None:
    (folder / name).write_text(edit((folder / name).read_text()))


def test_a_rerun_that_differs_names_numbers_scores_and_versions_and_ends_with_3(made, tmp_path):
    folder = Path(shutil.copytree(made[0], tmp_path / "run"))
    metrics, facts = (json.loads((folder / n).read_text()) for n in ("metrics.json", "run.json"))
    metrics["headline"]["estimate"]["value"] += 0.125
    facts["versions"]["numpy"] = "1.0"
    (folder / "metrics.json").write_text(json.dumps(metrics)); (folder / "run.json").write_text(json.dumps(facts))
    head, first, *rest = (folder / "predictions.csv").read_text().splitlines()
    cells = first.split(",")
    at = head.split(",").index("score")
    cells[at] = str(float(cells[at]) + 0.5)
    (folder / "predictions.csv").write_text("\n".join([head, ",".join(cells), *rest, ""]))
    done = leuknb_here("rerun", folder, "--check", cwd=tmp_path)
    assert done.returncode == 3 and (tmp_path / "run-rerun").is_dir()
    for words in ("not the same", "metrics.json: 1 value differ", "headline.estimate.value", "(by 0.125)",
                  f"predictions.csv: 1 of {len(rest) + 1:,} rows differ, scores by 0.5 at most, 0 called otherwise",
                  "changed since: numpy 1.0 -> "):
        assert words in done.stdout, done.stdout
    assert leuknb_here("rerun", folder, "--out", "more", cwd=tmp_path).returncode == 0, "asked for no verdict"


@pytest.mark.parametrize(("name", "edit"), [
    ("metrics.json", lambda text: text.replace('"schema": 2', '"schema": 2, "more": []')),
    ("predictions.csv", lambda text: text + "x.png,normal,,svm,cv,0,0.5,normal\n"),
    ("dataset.csv", lambda text: text.replace("\n", "\n\n", 1))])
def test_whatever_else_differs_is_not_called_the_same(made, tmp_path, name, edit):
    folder = Path(shutil.copytree(made[0], tmp_path / "run"))
    assert compare_runs(made[0], folder).same
    changed(folder, name, edit)
    assert not compare_runs(made[0], folder).same and name in str(compare_runs(made[0], folder))


@pytest.fixture
def moved(tmp_path):
    "A set of images, and the run folder of a report on it when it lay elsewhere."
    data = write_smears(tmp_path / "smears", SyntheticSettings(n_images=8, images_per_patient=2))
    dataset, folder = load_dataset(make_settings(data=str(data))), tmp_path / "run"
    folder.mkdir()
    dataset.table.to_csv(folder / "dataset.csv", index=False)
    facts = {"settings": {"data": str(tmp_path / "gone")}, "fingerprint": dataset.fingerprint}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder, data, dataset


def test_a_folder_that_moved_is_asked_for_and_taken(moved, tmp_path, monkeypatch):
    folder, data, _ = moved
    with pytest.raises(InputError, match="gone, which is not there: .*--data FOLDER"): rerun(folder)
    asked = []
    monkeypatch.setattr(module, "run_report", lambda settings, out, force, tell: asked.append(settings) or folder)
    monkeypatch.setattr(module, "compare_runs", lambda was, now: (was, now))
    assert rerun(folder, data) == (folder, folder) and asked[0].data == str(data)


def test_other_images_are_refused_with_what_is_new_gone_or_changed_before_anything_is_run(moved, monkeypatch):
    folder, data, dataset = moved
    monkeypatch.setattr(module, "run_report", None)
    first, second, third = dataset.table["file_name"][:3]
    (data / first).write_bytes((data / second).read_bytes()); (data / third).unlink()
    with pytest.raises(InputError) as e: rerun(folder, data)
    assert "not the images of the run" in str(e.value) and f"1 file changed ({first})" in str(e.value)
    assert f"1 file gone ({third})" in str(e.value)


def test_a_folder_that_is_no_run_or_a_damaged_one_is_told(tmp_path):
    assert "is no run folder" in leuknb_here("rerun", "nowhere", cwd=tmp_path).stderr
    (tmp_path / "run.json").write_text("{")
    done = leuknb_here("rerun", ".", cwd=tmp_path)
    assert done.returncode == 2 and "damaged" in done.stderr
