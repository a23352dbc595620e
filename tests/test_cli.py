"""The other commands, as a user calls them."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd


def leuknb(*arguments, cwd, **environment):
    return subprocess.run([str(Path(sys.executable).parent / "leuknb"), *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=600)


def test_help_and_version_are_quick_and_end_with_0(tmp_path):
    assert leuknb("--help", cwd=tmp_path).returncode == 0
    version = leuknb("--version", cwd=tmp_path)
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


def test_backbones_lists_the_offline_default_as_ready_and_refuses_an_unknown_name(tmp_path):
    done = leuknb("backbones", cwd=tmp_path, COLUMNS="200")
    assert done.returncode == 0 and "efficientnet_lite0" in done.stdout and "alexnet" in done.stdout
    wrong = leuknb("backbones", "alexnett", cwd=tmp_path)
    assert wrong.returncode == 2 and "alexnet" in wrong.stderr


def test_doctor_names_versions_and_device(tmp_path):
    done = leuknb("doctor", cwd=tmp_path)
    assert done.returncode == 0 and "torch" in done.stdout and "device" in done.stdout
