"""The house keeps its rules: one parameters cell, arrows that point one way, notebooks with current outputs, a light import."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from leuknb.settings import Settings
from leuknb.reporting.run import parameter_names, report_notebook

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
REPORTS = sorted((ROOT / "nbs" / "reports").glob("*.ipynb"))


def cells(path):
    return json.loads(path.read_text())["cells"]


def source(cell):
    return "".join(cell["source"])


def module_of(path):
    found = re.search(r"#\| default_exp (\w+)", "\n".join(source(c) for c in cells(path)))
    return found.group(1) if found else None


def test_the_parameters_cell_of_the_report_and_settings_name_the_same_things_with_the_same_defaults():
    cell = next(c for c in cells(report_notebook()) if "parameters" in c["metadata"].get("tags", []))
    scope = {}
    exec(source(cell), scope)  # noqa: S102
    values = {k: v for k, v in scope.items() if not k.startswith("__")}
    assert list(values) == list(Settings.model_fields) == parameter_names(report_notebook())
    assert values == Settings().model_dump()


def test_a_report_notebook_defines_no_function_and_no_class():
    assert REPORTS
    for path in REPORTS:
        for cell in cells(path):
            if cell["cell_type"] == "code":
                tree = ast.parse("\n".join(line for line in source(cell).split("\n") if not line.startswith("%")))
                assert not [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.Lambda))], path.name


def test_a_module_imports_only_rooms_above_its_own():
    order = [module_of(p) for p in NOTEBOOKS]
    assert len(order) == len(set(order)) and None not in order
    for at, name in enumerate(order):
        tree = ast.parse((ROOT / "leuknb" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "leuknb"):
                base = (node.module or "").removeprefix("leuknb").strip(".").split(".")[0]
                used = [base] if base else [a.name for a in node.names]
                for room in used: assert room in order[:at], f"{name} imports {room}"


def test_every_library_notebook_shows_something_and_no_stored_output_is_an_error():
    for path in NOTEBOOKS + REPORTS:
        outputs = [o for c in cells(path) for o in c.get("outputs", [])]
        assert not [o for o in outputs if o["output_type"] == "error"], path.name
        if path in NOTEBOOKS: assert outputs, f"{path.name} shows nothing"


def test_every_module_has_its_notebook():
    made = {module_of(p) for p in NOTEBOOKS}
    for module in (ROOT / "leuknb").glob("*.py"):
        if module.stem not in ("__init__", "_modidx"): assert module.stem in made, f"{module.name} has lost its notebook"


def test_importing_leuknb_is_light_and_loads_no_heavy_library():
    code = "import sys, time; t = time.perf_counter(); import leuknb; print(time.perf_counter() - t); print(*[m for m in ('torch', 'torchvision', 'timm', 'sklearn', 'pandas', 'matplotlib') if m in sys.modules])"
    took, heavy = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")[:2]
    assert float(took) < 0.3 and not heavy.strip()


@pytest.mark.parametrize("room", ["core", "cli", "report", "datasets", "preprocess", "features", "classify", "evaluate"])
def test_no_room_imports_torch_before_it_is_needed(room):
    code = f"import sys, leuknb.{room}; print('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
