"The folder shapes that people have: read as they are, or asked about with settings that work when they are copied."

import json
import re
import subprocess
import sys
import time

import pytest
from conftest import REAL
from PIL import Image

from leuknb.core import InputError
from leuknb.data.inspection import inspect, read_headers
from leuknb.data.layouts import layout_of
from leuknb.settings import make_settings, parse_changes

BUILDER = REAL.parent / "tools" / "layouts.py"
N = range(4)


def put(root, files, tables=None):
    "A set of tiny images at these paths, and tables."
    for f in files:
        path = root / f
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 60).save(path)
    for name, text in (tables or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def read(root, *settings):
    return layout_of(make_settings(**{"data": str(root), **parse_changes(list(settings))}))


def each(*levels, names="{}.png"):
    "Every path of these folder levels, four images in each, no file name twice."
    paths = [""]
    for level in levels: paths = [f"{p}{name}/" for p in paths for name in level]
    return [f"{p}{names.format(p.replace('/', '_') + str(n))}" for p in paths for n in N]


FOLDS = each(["fold_0", "fold_1", "fold_2"], ["all", "hem"])
SHAPES = {  # name: (files, tables, settings, what a reader finds)
    "class folders": (each(["AML", "healthy"]), {}, [], {"AML": 4, "healthy": 4}, None, None),
    "subtypes are classes": (each(["L1", "L2", "L3"]), {}, [], {"L1": 4, "L2": 4, "L3": 4}, None, None),
    "numbers are classes": (each(["0", "1"]), {}, ["positive=1"], {"0": 4, "1": 4}, None, None),
    "lone wrappers": (each(["a"], ["b"], ["blast", "mature"]), {}, [], {"blast": 4, "mature": 4}, None, None),
    "a folder in each class": (each(["blast", "mature"], ["images"]), {}, [], {"blast": 4, "mature": 4}, None, None),
    "folds above classes": (FOLDS, {}, [], {"all": 12, "hem": 12}, None, ["fold_0", "fold_1", "fold_2"]),
    "folds, and test sets without classes": (
        [f"C/training_data/{f}" for f in FOLDS] + each(["C"], ["testing_data"], ["C_test_final"])
        + each(["C"], ["validation_data"], ["C_test_prelim"]),
        {}, [], {"all": 12, "hem": 12}, None, ["fold_0", "fold_1", "fold_2"]),
    "a split that is a wrapper, too": (each(["Train"], ["Train"], ["a", "b"]) + each(["Test"], ["Test"], ["a", "b"]),
                                       {}, [],
                                       {"a": 8, "b": 8}, None, ["Test", "Train"]),
    "a part lacks a class": (each(["Train", "TestA"], ["a", "b", "c"]) + each(["TestB"], ["a", "b"]), {}, [],
                             {"a": 12, "b": 12, "c": 8}, None, ["TestA", "TestB", "Train"]),
    "classes above splits": (each(["blast", "mature"], ["train", "test"]), {}, [], {"blast": 8, "mature": 8}, None,
                             ["test", "train"]),
    "a labelled test folder beside classes": (each(["a", "b"]) + each(["test"], ["a", "b"]), {}, [], {"a": 8, "b": 8},
                                              None, ["test", "train"]),
    "patients below classes": (each(["AML"], ["case_1", "case_2"]) + each(["healthy"], ["case_3", "case_4"]), {},
                               ["group=folder"],
                               {"AML": 8, "healthy": 8}, 4, None),
    "patients above classes": (each(["case_1", "case_2", "case_3"], ["blast", "mature"]), {}, ["group=folder"],
                               {"blast": 12, "mature": 12}, 3, None),
    "patients with cells of both classes below them": (each(["blast", "mature"], ["P1", "P2", "P3"]), {},
                                                       ["group=folder"],
                                                       {"blast": 12, "mature": 12}, 3, None),
    "patients below classes below splits": (each(["train", "val"], ["a", "b"], ["p1", "p2"]), {}, ["group=folder"],
                                            {"a": 16, "b": 16}, 2, ["train", "val"]),
    "patients in the file names": (each(["a", "b"], names="UID_{}_x.png"), {}, [r"group=regex:UID_(\w_\d)_"],
                                   {"a": 4, "b": 4}, 8, None),
    "a table of patients": (each(["AML"], ["P1", "P2"]) + each(["control"], ["P3", "P4"]),
                            {"metadata.csv": "patient,sex\n" + "\n".join(f"P{n},f" for n in (1, 2, 3, 4))},
                            ["group=folder"],
                            {"AML": 8, "control": 8}, 4, None),
    "a table in each split": (each(["train", "test"]),
                              {f"{s}/labels.csv": "file,label\n" + "\n".join(f"{s}_{n}.png,{n % 2}" for n in N)
                               for s in ("train", "test")},
                              ["positive=1"], {"0": 4, "1": 4}, None, ["test", "train"]),
    "paths of another computer": (each(["im"]),
                                  {"t.csv": "path,label\n" + "\n".join(f"C:\\me\\im\\im_{n}.PNG,{'ab'[n % 2]}"
                                      for n in N)}, [],
                                  {"a": 2, "b": 2}, None, None),
    "the class in the name": ([f"Im{n}_{n % 2}.png" for n in N], {}, [r"label=regex:_(\d)\."], {"0": 2, "1": 2}, None,
                              None),
    "masks beside the images": ([*each(["a", "b"]), *(f.replace(".png", "_mask.png") for f in each(["a", "b"]))], {},
                                [], {"a": 4, "b": 4}, None, None),
    "masks in a tree of their own": ([f"images/{f}" for f in each(["a", "b"])] + [f"masks/{f}"
        for f in each(["a", "b"])], {}, [], {"a": 4, "b": 4}, None, None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_read_rightly(name, tmp_path):
    files, tables, settings, classes, patients, splits = SHAPES[name]
    found = read(put(tmp_path / "set", files, tables), *settings)
    assert (found.classes, found.patients, found.splits) == (classes, patients, splits)
    assert found.why and found.layout


REFUSED = {  # what cannot be told: files, tables, words of the refusal
    "whole sets twice": ([f"{t}/{f}" for t in ("Original", "Segmented") for f in each(["Benign", "Early"])], {},
                         "Original"),
    "augmented beside original": (each(["Original", "Augmented"], ["Benign", "Early"]), {}, "Augmented"),
    "splits without classes": (each(["train", "test"]), {}, "name splits"),
    "patients without classes": (each([f"patient_{n}" for n in range(5)]), {}, "named like patients"),
    "images without folders": ([f"{n}.png" for n in N], {}, "no class folder"),
    "a table without a class": ([f"{n}.png" for n in N],
                                {"t.csv": "file,cell,age\n" + "\n".join(f"{n}.png,{'ab'[n % 2]},{n}" for n in N)},
                                "--set label=cell"),
    "two tables": ([f"{n}.png" for n in N], {t: "file,label\n" + "\n".join(f"{n}.png,{n % 2}" for n in N)
                                             for t in ("a.csv", "b.csv")}, "a.csv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_a_guess_about_the_classes_is_refused_with_a_next_step(name, tmp_path):
    files, tables, words = REFUSED[name]
    with pytest.raises(InputError, match=re.escape(words)): read(put(tmp_path / "set", files, tables))


def settings_in(text):
    return [s.rstrip(").,;:") for s in re.findall(r"--set (?:'([^']*)'|(\S+))", text) for s in s if s]


SAID = [n for n in SHAPES if n.startswith(("patients", "masks"))] + ["a table without a class",
    "augmented beside original"]


@pytest.mark.parametrize("name", SAID)
def test_every_setting_that_a_message_names_works_when_it_is_copied(name, tmp_path):
    files, tables = (SHAPES.get(name) or REFUSED[name])[:2]
    root = put(tmp_path / "set", files, tables)
    try: said = " ".join([*(found := read(root)).notes, *found.questions])
    except InputError as e: said = str(e)
    offered = settings_in(said)
    if not name.startswith("patients in the file"): assert offered, said
    for setting in offered: assert len(read(root, setting).classes) > 1, setting


def test_a_class_in_the_file_names_counts_wherever_the_file_lies(tmp_path):
    files = [*(f"{c}/x{n}_{n % 2}.png" for n, c in enumerate("aabb")), "test/y0_0.png", "test/y1_1.png"]
    found = read(put(tmp_path / "set", files), r"label=regex:_(\d)\.")
    assert found.classes == {"0": 3, "1": 3}


def test_who_is_named_in_part_is_told_and_the_rest_is_nobody(tmp_path):
    rows = "file_name,label,patient_id\n" + "\n".join(f"{n}.png,{'ab'[n % 2]},{f'P{n // 2}' if n < 6 else ''}"
                                                      for n in range(8))
    found = read(put(tmp_path / "set", [f"{n}.png" for n in range(8)], {"metadata.csv": rows}))
    assert found.patients == 3 and "2 of 8 images name no patient" in " ".join(found.notes)


def test_what_was_taken_for_what_is_said(tmp_path):
    table = "Image;Label;Patient ID;Site\n" + "\n".join(f"{n};{'ab'[n % 2]};{n // 2};Bonn" for n in N)
    found = read(put(tmp_path / "set", [f"x/{n}.png" for n in N], {"t.csv": table}))
    said = " ".join(found.notes)
    for words in ("column Image taken as file_name", "column Label taken as label",
                  "column Patient ID taken as patient_id", "column Site taken as site"):
        assert words in said
    assert found.patients == 2 and set(found.used["site"]) == {"Bonn"}


def test_a_missing_file_names_the_folder_that_was_searched(tmp_path):
    root = put(tmp_path / "smears", [f"{n}.png" for n in N],
               {"metadata.csv": "file_name,label\n" + "\n".join(f"{n}.png,{'ab'[n % 2]}" for n in range(6))})
    assert set(read(root).listing["why"]) == {"", "no such file in smears/"}


@pytest.mark.parametrize("pattern", ["((a+)+)+$", "(a|aa)+$", "(.*)*x(y)"])
def test_a_pattern_that_would_run_for_ever_ends_with_a_sentence(pattern, tmp_path):
    root = put(tmp_path / "set", ["a" * 60 + "!.png", "b.png"])
    start = time.monotonic()
    with pytest.raises(InputError, match="regex"): read(root, f"label=regex:{pattern}")
    assert time.monotonic() - start < 10


def test_twelve_bits_in_sixteen_are_told_and_never_black(tmp_path):
    import numpy as np

    from leuknb.data.images import decode

    for n in N:
        path = tmp_path / "set" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.arange(64 * 64).reshape(64, 64) % 4096).astype(np.uint16)).save(path)
    look = inspect(tmp_path / "set")
    assert "4 16-bit files" in str(look) and "fill 12 bits" in str(look)
    assert decode(path.read_bytes()).max() == 255


def test_inspect_prints_its_facts_as_json_and_ends_with_2_where_it_would_guess(tmp_path):
    from conftest import leuknb_here

    root = put(tmp_path / "set", each(["AML"], ["case_1", "case_2"]) + each(["healthy"], ["case_3", "case_4"]))
    done = leuknb_here("inspect", root, "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert {k: facts[k] for k in ("classes", "patients", "split", "skipped")} == {"classes": {"AML": 8, "healthy": 8},
        "patients": None, "split": None, "skipped": 0}
    assert facts["layout"] == "class folders" and "--set group=folder" in facts["questions"][0]
    said = leuknb_here("inspect", root, "--set", "group=folder", cwd=tmp_path).stdout
    assert "patients: 4, from folders" in said
    twins = put(tmp_path / "twins", REFUSED["whole sets twice"][0])
    done = leuknb_here("inspect", twins, "--json", cwd=tmp_path)
    assert done.returncode == 2 and "Original" in done.stderr and not done.stdout


def test_headers_are_read_in_a_straight_line(tmp_path):
    names = [f"{n % 7}/{n}.png" for n in range(600)]
    put(tmp_path, names)
    start = time.perf_counter()
    found = read_headers(tmp_path, names)
    assert (found["width"] == 8).all() and time.perf_counter() - start < 10


@pytest.mark.skipif(not BUILDER.is_file(), reason="the builder of real shapes is absent")
def test_real_shapes_are_read_as_expected(tmp_path):
    subprocess.run([sys.executable, str(BUILDER), str(tmp_path)], check=True, capture_output=True)
    wrong = {}
    for name, want in json.loads((tmp_path / "expected.json").read_text()).items():
        data = tmp_path / name / want.get("data", "")
        try: look = inspect(data, **parse_changes(want.get("set", [])))
        except InputError as e:
            if want.get("refused", "\0") not in str(e): wrong[name] = str(e)
            continue
        facts = look.as_dict()
        right = {k: want.get(k, 0 if k == "skipped" else None) for k in ("classes", "patients", "split", "skipped")}
        if {k: facts[k] for k in right} != right or want.get("ask", "") not in str(look) or "refused" in want:
            wrong[name] = facts
    assert not wrong


def test_a_class_none_of_whose_images_names_a_patient_is_enough_images_of_its_own(tmp_path):
    from leuknb.data.datasets import load_dataset, require_enough

    rows = "file_name,label,patient_id\n" + "\n".join(
        f"{n}.png,{'ab'[n % 2]},{f'P{n // 4}' if n % 2 else ''}" for n in range(48))
    put(tmp_path / "set", [f"{n}.png" for n in range(48)], {"metadata.csv": rows})
    settings = make_settings(data=str(tmp_path / "set"), positive="b")
    assert require_enough(load_dataset(settings), settings).n_patients == 12


def test_an_unknown_classifier_is_refused_before_anything_is_read(tmp_path):
    from conftest import leuknb_here

    done = leuknb_here("report", tmp_path / "not-there", "--set", "classifiers=svmm", cwd=tmp_path)
    assert done.returncode == 2 and "'svmm' is not known" in done.stderr and "not-there" not in done.stderr


def test_the_audit_names_the_files_it_left_out_in_the_terminal_and_on_its_page(tmp_path):
    from conftest import leuknb_here

    put(tmp_path / "set", [f"{c}/{c}{n}.png" for c in ("AML", "healthy") for n in range(12)])
    (tmp_path / "set/AML/broken.png").write_text("no image")
    done = leuknb_here("audit", tmp_path / "set", "--out", tmp_path / "audit", "--set", "image_size=32", cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    assert "left out: AML/broken.png: not an image" in done.stderr
    assert "AML/broken.png" in (tmp_path / "audit" / "audit.html").read_text()
