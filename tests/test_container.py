"""The recipes for a container, a development container and Binder, as far as they can be judged without building them:
what they copy is there, what they install is declared, nothing runs as root, nothing of the folder goes in unasked.
"""

import json
import os
import re
import subprocess
import tomllib

import yaml
from conftest import ROOT

EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def instructions():
    "The instructions of the Dockerfile: (keyword, the rest), lines that go on joined."
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def stages():
    "The instructions after each FROM."
    found = []
    for word, rest in instructions():
        if word == "FROM": found.append([])
        found[-1].append((word, rest))
    return found


def ignored(path):
    "Whether .dockerignore leaves a path out: the last rule that fits decides, a rule for a folder fits what is below."
    out = False
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        if not rule or rule.startswith("#"): continue
        body = rule.removeprefix("!")
        pattern = re.escape(body).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{pattern}(/.*)?", path): out = not rule.startswith("!")
    return out


def installed(text):
    "The extras of leuknb that a recipe installs."
    return {name for group in re.findall(r"'\.\[([\w,]+)\]'", text) for name in group.split(",")}


def test_every_source_that_is_copied_exists_and_is_not_ignored():
    sources = [s for word, rest in instructions() if word == "COPY" and "--from" not in rest for s in rest.split()[:-1]]
    assert {"leuknb", "nbs/reports", "constraints.txt"} <= set(sources)
    for source in sources: assert (ROOT / source).exists() and not ignored(source), source


def test_nothing_else_of_the_folder_reaches_the_image():
    for path in ("smears/patient_1.png", ".git/config", "runs/x/dataset.csv", "nbs/guides/01_kaggle.md", "tests",
                 ".env", "leuknb/data/__pycache__/x.pyc"):
        assert ignored(path), path
    assert not ignored("leuknb/core.py") and not ignored("nbs/reports/report.ipynb")


def test_the_image_runs_leuknb_as_nobody_of_note_and_asks_no_network():
    last = stages()[-1]
    users = [rest for word, rest in last if word == "USER"]
    assert users and users[-1] not in ("root", "0") and not [w for w, _ in instructions() if w == "ADD"]
    assert json.loads(dict(last)["ENTRYPOINT"]) == ["leuknb"] and json.loads(dict(last)["CMD"]) == ["--help"]
    environment = " ".join(rest for word, rest in last if word == "ENV")
    for value in ("LEUKNB_OFFLINE=1", "HF_HUB_OFFLINE=1", "LEUKNB_HOME=/tmp/"): assert value in environment
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert len(bases) == 2 and all(re.fullmatch(r"python:3\.\d+-slim", base) for base in bases)


def test_the_image_is_made_with_the_pinned_versions_torch_without_cuda_and_known_extras():
    text = (ROOT / "Dockerfile").read_text()
    assert "-c constraints.txt" in text and "download.pytorch.org/whl/cpu" in text
    assert installed(text) == {"crate", "onnx"} <= EXTRAS


def test_the_commands_of_the_image_are_commands_of_leuknb():
    from leuknb.cli import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands}
    used = set(re.findall(r"leuknb (\w+) /", (ROOT / "Dockerfile").read_text()))
    assert used == {"report", "synth", "extract"} <= known


def test_the_development_container_makes_what_make_makes_and_is_not_root():
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert made["remoteUser"] not in ("root", "0") and made["postCreateCommand"] == "make .venv/.made"
    assert re.search(r"^\.venv/\.made:", (ROOT / "Makefile").read_text(), re.M)


def test_binder_installs_the_checkout_with_known_extras():
    wanted = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text())
    assert wanted["dependencies"] == ["python=3.11", "pip"]
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK) and subprocess.run(["bash", "-n", script]).returncode == 0
    assert installed(script.read_text()) <= EXTRAS and "-c constraints.txt" in script.read_text()
