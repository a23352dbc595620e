"""The house keeps its rules: one parameters cell, arrows that point one way, notebooks with current outputs, a light
import.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leuknb.reporting.run import parameter_names, report_notebook
from leuknb.settings import make_settings, Settings

ROOT = Path(__file__).resolve().parent.parent
REPORTS = sorted((ROOT / "nbs" / "reports").glob("*.ipynb"))
# The library's notebooks in the order of their numbers, which is the order of the story and of the imports.
NOTEBOOKS = sorted(p for d in (ROOT / "nbs", *(ROOT / "nbs").glob("[0-9]*_*/")) for p in d.glob("*.ipynb"))
MOST_LINES = 450
# Modules that may be longer, and why.
LONG = {
    "cli": "one short function for each command",
    "data.smears": "one drawing, from the cell to the slide",
    "features.distributed": "workers, shards and their failures are one protocol",
    "evaluation.intervals": "every interval rests on one idea, the effective number of images",
    "explanation.evidence": "one map in three ways, each a check of the others",
    "experiments.compare": "one comparison, read from top to bottom",
}


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def module_of(path):
    found = re.search(r"#\| default_exp ([\w.]+)", "\n".join(source(c) for c in cells(path)))
    return found.group(1) if found else None


ORDER = [module_of(p) for p in NOTEBOOKS]
PACKAGES = {m.split(".")[0] for m in ORDER if "." in m}
MODULES = {".".join(p.relative_to(ROOT / "leuknb").with_suffix("").parts): p
           for p in (ROOT / "leuknb").rglob("*.py") if not p.name.startswith("_")}


def imports(module, text):
    "Each import of leuknb in a module, at any depth: the module, and the name taken from it (None: the module itself)."
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for a in node.names:
                if a.name.startswith("leuknb."): yield a.name.removeprefix("leuknb."), None, a.asname
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".")
            if node.level: base = [*package[:len(package) - node.level + 1], *(b for b in base if b)]
            elif base[0] == "leuknb": base = base[1:]
            else: continue
            for a in node.names:
                whole = ".".join([*base, a.name])
                if whole in ORDER: yield whole, None, a.asname or a.name
                elif base: yield ".".join(base), a.name, a.asname or a.name


def upward(module, text):
    "What a module imports that stands at or below it in the order."
    return [used for used, _, _ in imports(module, text) if used not in ORDER[:ORDER.index(module)]]


def private(module, text):
    "Private names of other modules that a module takes: imported, or read as an attribute of an imported module."
    found = [f"{used}.{name}" for used, name, _ in imports(module, text) if name and name.startswith("_")]
    taken = {alias: used for used, name, alias in imports(module, text) if name is None}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in taken:
            if re.match(r"_(?!_)", node.attr): found.append(f"{taken[node.value.id]}.{node.attr}")
    return found


def test_the_parameters_cell_of_the_report_and_settings_name_the_same_things_with_the_same_defaults():
    cell = next(c for c in cells(report_notebook()) if "parameters" in c["metadata"].get("tags", []))
    scope = {}
    exec(source(cell), scope)  # noqa: S102
    values = {k: v for k, v in scope.items() if not k.startswith("__")}
    assert list(values) == list(Settings.model_fields) == parameter_names(report_notebook())
    assert values == make_settings().model_dump()


def test_a_report_notebook_defines_no_function_and_no_class():
    assert REPORTS
    for path in REPORTS:
        for cell in cells(path):
            if cell["cell_type"] == "code":
                tree = ast.parse("\n".join(line for line in source(cell).split("\n") if not line.startswith("%")))
                defined = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
                assert not [n for n in ast.walk(tree) if isinstance(n, defined)], path.name


def test_notebooks_are_numbered_inside_their_folder_no_two_alike_and_lie_where_their_module_does():
    folders = [p.name for p in (ROOT / "nbs").iterdir() if re.match(r"\d", p.name) and p.is_dir()]
    assert {f[3:] for f in folders} == PACKAGES and len({f[:2] for f in folders}) == len(folders)
    top = [p.stem.split("_")[0] for p in NOTEBOOKS if p.parent.name == "nbs"]
    assert len(set(top)) == len(top) and not set(top) & {f[:2] for f in folders}
    for path, module in zip(NOTEBOOKS, ORDER, strict=True):
        number, _, name = path.stem.partition("_")
        assert re.fullmatch(r"\d\d[a-z]?", number), f"{path.name} has no number"
        package = "" if path.parent.name == "nbs" else path.parent.name[3:] + "."
        assert module == package + name, f"{path.relative_to(ROOT)} makes {module}"
        alike = [p.name for p in path.parent.glob(f"{number}_*.ipynb")]
        assert alike == [path.name], alike


def test_every_module_has_its_notebook_and_every_notebook_its_module():
    assert set(MODULES) == set(ORDER)
    for package in PACKAGES: assert (ROOT / "leuknb" / package / "__init__.py").is_file(), package


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_what_stands_before_it(module):
    assert upward(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", ORDER)
def test_a_module_takes_no_private_name_of_another(module):
    assert private(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_the_checks_of_imports_find_what_they_look_for():
    assert upward("data.images", "def f():\n    from ..evaluation.metrics import rates\n") == ["evaluation.metrics"]
    assert upward("data.images", "from leuknb.data import datasets\nimport leuknb.cli\n") == ["data.datasets", "cli"]
    assert upward("data.images", "from .images import x") == ["data.images"]
    assert upward("data.layouts", "from .images import decode\nfrom ..core import rng\nimport numpy") == []
    assert private("data.layouts", "from .images import _x, y as z\nfrom ..core import _a as b") == ["data.images._x",
                                                                                                   "core._a"]
    assert private("cli",
                   "from .data import images as i\nfrom . import core\ni._x()\ncore.__file__") == ["data.images._x"]


def test_no_module_is_longer_than_it_should_be():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: n for name, n in lines.items() if n > MOST_LINES and name not in LONG} == {}
    assert [name for name in LONG if lines.get(name, 0) <= MOST_LINES] == [], "they need no exception any more"


def test_no_line_of_a_module_is_wider_than_120_columns_beside_what_nbdev_writes():
    wide = []
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        listed = next(n for n in ast.parse(text).body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__")
        made = {1, *range(listed.lineno, listed.end_lineno + 1)}  # the notebook's `>` line, and __all__
        wide += [f"{name}:{i}" for i, line in enumerate(text.splitlines(), 1) if len(line) > 120 and i not in made]
    assert wide == []


def test_every_library_notebook_says_what_it_is_for_and_why():
    for path in NOTEBOOKS:
        first = source(cells(path)[0])
        title, line, *rest = [t for t in first.split("\n") if t.strip()]
        assert title == f"# {module_of(path).split('.')[-1]}", path.name
        assert line.startswith("> ") and len(line) > 30, path.name
        assert len(" ".join(rest)) > 100, f"{path.name} does not say why its step matters"
        assert "TODO" not in "\n".join(source(c) for c in cells(path)), path.name


def test_every_library_notebook_shows_something_and_no_stored_output_is_an_error():
    for path in NOTEBOOKS + REPORTS:
        outputs = [o for c in cells(path) for o in c.get("outputs", [])]
        assert not [o for o in outputs if o["output_type"] == "error"], path.name
        if path in NOTEBOOKS: assert outputs, f"{path.name} shows nothing"
        assert "site-packages" not in json.dumps(outputs), f"{path.name} shows a warning with a path of the machine"
        assert "widgets" not in json.loads(path.read_text(encoding="utf-8"))["metadata"], \
            f"{path.name} keeps the state of widgets, which only a run knows"


def test_contributors_find_every_floor_in_order_and_every_file_that_is_named():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `nbs/(\d\d)_(\w+)/` \| `leuknb\.(\w+)`", text, re.M)
    assert [n for _, n, _ in named] == [p for _, _, p in named] == list(dict.fromkeys(
        m.split(".")[0] for m in ORDER if "." in m))
    for path in re.findall(r"`((?:nbs|leuknb|tests|docs)/[\w./-]*)`", text): assert (ROOT / path).exists(), path


def test_tests_lie_as_the_packages_do():
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.parent.name
        if folder in ("tests", "hard"): continue  # what crosses packages, and inputs made to hurt
        assert f"{folder}.{path.stem.removeprefix('test_')}" in ORDER, path.relative_to(ROOT)


def test_importing_leuknb_is_light_and_loads_no_heavy_library():
    code = ("import sys, time; t = time.perf_counter(); import leuknb; print(time.perf_counter() - t); "
            "print(*[m for m in ('torch', 'torchvision', 'timm', 'sklearn', 'pandas', 'matplotlib') if m in "
            "sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, heavy = done.stdout.split("\n")[:2]
    assert float(took) < 0.3 and not heavy.strip()


@pytest.mark.parametrize("module", ["core", "cli", "reporting.run", "data.datasets", "data.images",
                                    "features.extraction", "classification.fitting", "evaluation.schemes"])
def test_no_module_imports_torch_before_it_is_needed(module):
    code = f"import sys, leuknb.{module}; print('torch' in sys.modules or 'timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
