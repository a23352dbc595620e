"What `import leuknb` offers: the few names that most people need, loaded when they are used."

import inspect
import pydoc
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

import leuknb
from leuknb.data.synthetic import draw_batch
from leuknb.settings import SyntheticSettings

HEAVY = ("numpy", "pandas", "torch", "torchvision", "timm", "sklearn", "matplotlib", "PIL", "pydantic")


def in_a_new_process(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_it_costs_less_than_a_twentieth_of_a_second_and_loads_no_library():
    code = f"""import sys, time; t = time.perf_counter(); import leuknb; took = time.perf_counter() - t
print(took, *(m for m in {HEAVY} if m in sys.modules))"""
    runs = [in_a_new_process(code) for _ in range(5)]
    assert min(float(took) for took, *_ in runs) < 0.05 and not any(heavy for _, *heavy in runs)


def test_every_name_it_lists_is_there_and_documented():
    assert set(leuknb.__all__) <= set(dir(leuknb))
    for name in ("report", "audit", "train", "load_model", "load_dataset", "extract", "evaluate", "CNNFeatures",
                 "Settings",
                 "make_settings", "Run", "Dataset"):
        assert name in leuknb.__all__ and inspect.getdoc(getattr(leuknb, name)), name


def test_help_names_the_functions_with_what_they_do():
    shown = pydoc.render_doc(leuknb, renderer=pydoc.plaintext)
    for words in ("import leuknb", "report(data", "Run the report on `data`", "load_model(path"):
        assert words in shown, words


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'reports_'"): leuknb.reports_  # noqa: B018


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    example = re.search(r"## As a module\n+((?:    .*\n|\n)+)", (ROOT / "README.md").read_text())[1]
    lines = [line.strip() for line in example.splitlines() if line.strip()]
    assert len(lines) == 6 and lines[0] == "import leuknb"
    monkeypatch.chdir(tmp_path)
    small = ("synthetic={'n_images': 40, 'images_per_patient': 2}, classifiers=['svm'], n_splits=0, permutations=0, "
             "cases=0, audit=False")
    code = "\n".join(lines).replace('report("my_images"', f'report("synthetic", {small}')
    code = code.replace('train("my_images", "model"',
                        f'train("synthetic", "model", cv_folds=3, {small}').replace("run.open()", "run.page")
    batch = draw_batch(SyntheticSettings(n_images=4), side=120)
    Image.fromarray(batch.rgb[0]).save("new_smear.png")
    names = {}
    exec(code, names)  # noqa: S102
    assert names["run"].page.is_file() and names["run"].metrics["dataset"]["n_images"] == 40
    assert set(names["answers"]["verdict"]) <= {"like the training data", "unlike the training data"}
