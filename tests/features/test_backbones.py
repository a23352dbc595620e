"""The names of networks and where their weights lie, listed without importing what builds them."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from leuknb.core import home
from leuknb.features import backbones


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def kept(): return sorted((home() / "backbones").glob("*.json"))


def test_names_are_kept_for_the_installed_versions_and_listed_without_torch_and_timm(own_home, monkeypatch):
    table = backbones.backbones()
    assert len(table) > 1000 and table["backbone"].is_unique and len(kept()) == 1
    assert set(table["source"]) == {"package", "torchvision", "foundation", "timm"}
    assert set(table["backbone"]) == {*backbones.backbone_names()}
    code = ("import sys; from leuknb.features.backbones import backbones; backbones().to_parquet(sys.argv[1]); "
            "print(*(m for m in ('torch', 'timm', 'torchvision', 'sklearn') if m in sys.modules))")
    done = subprocess.run([sys.executable, "-c", code, str(own_home / "table")], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout.strip(), done.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(own_home / "table"), table)
    monkeypatch.setattr(backbones, "package_versions", lambda names: dict.fromkeys(names, "another"))
    assert backbones.backbones().equals(table) and len(kept()) == 2


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"torchvision": {"alexnet": ["a"]}, "timm": {}}', "{"])
def test_damaged_names_are_written_anew(own_home, damage):
    table = backbones.backbones("alexnet")
    (note,) = kept()
    whole = note.read_bytes()
    note.write_text(damage)
    assert backbones.backbones("alexnet").equals(table) and note.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(own_home):
    own_home.write_text("a file where the folder should be")
    assert "alexnet" in set(backbones.backbones("alexnet")["backbone"])


@pytest.mark.parametrize("environment", [{}, {"TORCH_HOME": "there"}, {"XDG_CACHE_HOME": "/x/y"},
                                         {"TORCH_HOME": "~/there", "XDG_CACHE_HOME": "/x"}])
def test_the_folder_of_torchs_hub_is_the_same_with_and_without_torch(environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("TORCH_HOME", "XDG_CACHE_HOME")} | environment
    code = ("import sys; from leuknb.features.backbones import _hub_folder as f; a = f(); assert 'torch' not in "
            "sys.modules; import torch; print(a, f(), sep='\\n')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean)
    without, asked = done.stdout.splitlines()
    assert without == asked, done.stderr


def test_a_weights_file_that_comes_or_goes_is_seen_although_names_are_kept(own_home, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub-home"))
    assert not backbones.backbones("alexnet").set_index("backbone")["ready"]["alexnet"]
    folder = backbones._hub_folder()
    folder.mkdir(parents=True)
    (folder / backbones.backbones("alexnet").set_index("backbone")["weights"]["alexnet"]).write_bytes(b"")
    assert backbones.backbones("alexnet").set_index("backbone")["ready"]["alexnet"]
