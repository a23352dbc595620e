"""Each recipe reads a miniature in the shape that its set is downloaded in; what nobody could check says so."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leuknb.core import InputError
from leuknb.data import known_sets as module
from leuknb.data.known_sets import known_set, known_sets, settings_of, UNCHECKED, with_known_set
from leuknb.data.layouts import layout_of
from leuknb.settings import make_settings

KEYS = ("cnmc2019 all_idb1 all_idb2 aml_lmu aml_mll deepapl pbc raabin_wbc taleqani_all bccd bloodmnist mll23 "
        "elsafty_rbc wbcbench2026 chula_rbc12").split()
UNREADABLE = ("chula_rbc12",)  # points, no classes


def image(root: Path, name: str) -> None:
    "A small image of noise: no two are alike, none looks like a mask."
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(name.encode())).integers(0, 256, (8, 8, 3), "uint8")
    Image.fromarray(noise).save(path)


def table(path: Path, header: str, rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    out = io.StringIO()
    csv.writer(out).writerows([header.split(","), *rows])
    path.write_text(out.getvalue())


def read(key: str, data: Path, **changes):
    return layout_of(make_settings(**with_known_set({"set": key, "data": str(data), **changes})))


# each recipe on its miniature

def cnmc(root: Path) -> Path:
    for patient in range(1, 13):
        ill = patient % 2 == 1
        who, what = (f"UID_{patient}", "all") if ill else (f"UID_H{patient}", "hem")
        for i in (1, 2): image(root, f"C-NMC_training_data/fold_{patient % 3}/{what}/{who}_{i}_1_{what}.bmp")
    for part in ("prelim", "final"):
        for i in range(1, 5): image(root, f"C-NMC_test_{part}_phase_data/{i}.bmp")
    table(root / "C-NMC_test_prelim_phase_data_labels.csv", "Patient_ID,new_names,labels",
          [[f"UID_{57 + i}_1_1_all.bmp", f"{i}.bmp", i % 2] for i in range(1, 5)])
    return root


@pytest.mark.parametrize("inside", ["", "C-NMC_training_data"])
def test_cnmc2019_has_its_folds_as_splits_and_its_patients_from_the_file_names(tmp_path, inside):
    lay = read("cnmc2019", cnmc(tmp_path / "C-NMC_Leukemia") / inside)
    assert len(lay.listing) == (24 if inside else 32), "the test parts, which name no class, are listed and left out"
    assert lay.classes == {"all": 12, "hem": 12} and lay.patients == 12
    assert lay.splits == ["fold_0", "fold_1", "fold_2"]
    assert {g[0] for g in lay.used.loc[lay.used["label"] == "hem", "group"]} == {"H"}


def test_the_preliminary_part_of_cnmc2019_is_read_by_the_table_that_its_recipe_names(tmp_path):
    root = cnmc(tmp_path / "C-NMC_Leukemia")
    assert "--set file=new_names --set label=labels" in known_set("cnmc2019")["needs"]
    lay = layout_of(make_settings(data=str(root / "C-NMC_test_prelim_phase_data_labels.csv"), file="new_names",
                                  label="labels", positive="1"))
    found = lay.listing[lay.listing["label"] != ""]
    assert len(found) == 4 and {*found["label"]} == {"0", "1"}


@pytest.mark.parametrize("key, folder, ending", [("all_idb1", "ALL_IDB1/im", "jpg"),
                                                 ("all_idb2", "ALL_IDB2/img", "tif")])
def test_all_idb_has_its_classes_from_the_file_names(tmp_path, key, folder, ending):
    for i in range(1, 21):
        image(tmp_path, f"{folder}/Im{i:03}_{int(i <= 10)}.{ending}")
        if key == "all_idb1":
            xyc = tmp_path / f"ALL_IDB1/xyc/Im{i:03}_{int(i <= 10)}.xyc"
            xyc.parent.mkdir(exist_ok=True)
            xyc.write_text("446 164\n168 442\n")
    lay = read(key, tmp_path)
    assert lay.classes == {"0": 10, "1": 10} and lay.patients is None and lay.splits is None
    assert settings_of(key)["positive"] in lay.classes


def test_aml_lmu_has_fifteen_class_folders(tmp_path):
    for c in known_set("aml_lmu")["classes"]:
        for i in (1, 2): image(tmp_path, f"AML-Cytomorphology_LMU/{c}/{c}_{i:04}.tiff")
    (tmp_path / "annotations.dat").write_text("BAS/BAS_0001.tiff BAS nan nan\n")
    lay = read("aml_lmu", tmp_path)
    assert lay.classes == dict.fromkeys(known_set("aml_lmu")["classes"], 2) and lay.patients is None


@pytest.mark.parametrize("with_table", [False, True])
def test_aml_mll_has_a_folder_for_each_patient_below_the_classes(tmp_path, with_table):
    people = {"CBFB_MYH11": ["AQK", "BDR"], "NPM1": ["CCO", "DTE"], "PML_RARA": ["EFG"], "RUNX1_RUNX1T1": ["FIL"],
              "control": ["GAB", "HUW", "IXE"]}
    for c, names in people.items():
        for name in names:
            for i in range(3): image(tmp_path, f"data/{c}/{name}/image_{i}.tif")
    if with_table:
        table(tmp_path / "metadata.csv", "patient_id,age,bag_label",
              [[name, 50, c] for c, names in people.items() for name in names])
    lay = read("aml_mll", tmp_path)
    assert lay.classes == {c: 3 * len(names) for c, names in people.items()} and lay.patients == 9
    if with_table: assert {*lay.used["age"]} == {"50"}


@pytest.mark.parametrize("inside", ["", "Data", "Data/All"])
def test_deepapl_has_cell_types_and_patients_from_whichever_folder_is_given(tmp_path, inside):
    for p in ("Patient_00", "Patient_01", "Patient_2", "Patient_100"):
        for c, short in (("Blast, no lineage spec", "BL"), ("Lymphocyte", "LY"), ("Promyelocyte", "PMY")):
            for i in (1, 2): image(tmp_path, f"Data/All/{p}/Signed slides/{c}/{short}_{sum(p.encode())}{i}.jpg")
    table(tmp_path / "Data/master.csv", "Patient_ID,Diagnosis,Cohort,Age at Diagnosis,Gender",
          [["Patient_00", "APL", "Discovery", 29, "Female"], ["Patient_01", "AML", "Discovery", 28, "Male"],
           ["Patient_2", "AML", "Discovery", 29, "Female"], ["Patient_100", "APL", "Validation", 31, "Female"]])
    lay = read("deepapl", tmp_path / inside)
    assert lay.classes == {"Blast, no lineage spec": 8, "Lymphocyte": 8, "Promyelocyte": 8} and lay.patients == 4
    if inside != "Data/All": assert lay.used.groupby("group")["Cohort"].first()["Patient_100"] == "Validation"


def test_pbc_has_eight_class_folders_below_a_lone_one(tmp_path):
    for c in known_set("pbc")["classes"]:
        for i in range(3): image(tmp_path, f"PBC_dataset_normal_DIB/{c}/{c[:2].upper()}_{100 + i}.jpg")
    assert read("pbc", tmp_path).classes == dict.fromkeys(known_set("pbc")["classes"], 3)


def test_raabin_wbc_has_its_three_parts_as_splits(tmp_path):
    for part in ("Train", "TestA", "TestB"):
        for c in known_set("raabin_wbc")["classes"]:
            if part == "TestB" and c not in ("Lymphocyte", "Neutrophil"): continue
            for i in range(3): image(tmp_path, f"{part}/{c}/{part}_{c}_{i}.jpg")
    lay = read("raabin_wbc", tmp_path)
    assert lay.splits == ["TestA", "TestB", "Train"]
    assert lay.classes == {"Basophil": 6, "Eosinophil": 6, "Lymphocyte": 9, "Monocyte": 6, "Neutrophil": 9}


def test_taleqani_all_is_read_once_from_the_whole_fields(tmp_path):
    for c in ("Benign", "Early", "Pre", "Pro"):
        for i in range(4):
            for version in ("Original", "Segmented"):
                image(tmp_path, f"{version}/{c}/WBC-{c if c == 'Benign' else f'Malignant-{c}'}-{i:03}.jpg")
    with pytest.raises(InputError): layout_of(make_settings(data=str(tmp_path)))
    lay = read("taleqani_all", tmp_path)
    assert lay.classes == {"Benign": 4, "Early": 4, "Pre": 4, "Pro": 4} and len(lay.listing) == 32
    assert all(f.startswith("Original/") for f in lay.used["file_name"])


def test_bloodmnist_has_its_split_and_is_its_own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path))
    root, rows = tmp_path / "medmnist" / "bloodmnist", []
    for part in ("train", "val", "test"):
        for i in range(4):
            image(root, f"{part}/{i:05}.png")
            rows.append([f"{part}/{i:05}.png", ("basophil", "platelet")[i % 2], part])
    table(root / "metadata.csv", "file_name,label,split", rows)
    lay = layout_of(make_settings(**with_known_set({"set": "bloodmnist"})))
    assert lay.classes == {"basophil": 6, "platelet": 6} and lay.splits == ["test", "train", "val"]


def test_mll23_has_eighteen_class_folders(tmp_path):
    classes = known_set("mll23")["classes"]
    for c in classes: image(tmp_path, f"{c}/{c}_0001.tif")
    assert len(classes) == 18 and read("mll23", tmp_path).classes == dict.fromkeys(classes, 1)


def test_elsafty_rbc_has_class_folders(tmp_path):
    for c in ("01-Normal", "02-Teardrop", "03-Ovalocyte"):
        for i in range(3): image(tmp_path, f"Elsafty_RBCs_for_Classification/Cropped images/{c}/{i}.png")
    assert read("elsafty_rbc", tmp_path).classes == {"01-Normal": 3, "02-Teardrop": 3, "03-Ovalocyte": 3}


@pytest.mark.parametrize("given, folder", [("phase1_label.csv", "phase1"), ("phase2_train.csv", "phase2/train"),
                                           ("phase2_eval.csv", "phase2/eval")])
def test_wbcbench2026_is_read_part_by_part_by_its_tables(tmp_path, given, folder):
    n, parts = 0, {"phase1_label.csv": "phase1", "phase2_train.csv": "phase2/train",
                   "phase2_eval.csv": "phase2/eval", "phase2_test.csv": "phase2/test"}
    for name, place in parts.items():
        rows = []
        for i in range(6):
            n += 1
            image(tmp_path, f"{place}/{n:08}.jpg")
            rows.append([f"{n:08}.jpg", ("BL", "LY", "SNE")[i % 3]])
        if "test" in name: table(tmp_path / name, "ID", [[f] for f, _ in rows])
        else: table(tmp_path / name, "ID,labels", rows)
    assert given in known_set("wbcbench2026")["give"]
    lay = read("wbcbench2026", tmp_path / given)
    assert lay.classes == {"BL": 2, "LY": 2, "SNE": 2}
    assert {f.rpartition("/")[0] for f in lay.used["file_name"]} == {folder}


def test_bccd_becomes_its_cells_cut_out_by_their_boxes(tmp_path):
    kinds = ("RBC", "WBC", "Platelets")
    for n in range(4):
        image(tmp_path, f"BCCD/JPEGImages/BloodImage_{n:05}.jpg")
        boxes = "".join(f"<object><name>{k}</name><bndbox><xmin>{i}</xmin><ymin>0</ymin><xmax>{i + 6}</xmax>"
                        "<ymax>7</ymax></bndbox></object>" for i, k in enumerate(kinds))
        path = tmp_path / f"BCCD/Annotations/BloodImage_{n:05}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation><filename>BloodImage_{n:05}.jpg</filename>{boxes}</annotation>")
    lay = read("bccd", tmp_path)
    assert lay.classes == {"Platelets": 4, "RBC": 4, "WBC": 4} and lay.patients == 4 and "Pascal VOC" in lay.layout


def test_what_is_set_beside_the_known_set_wins_over_its_recipe(tmp_path):
    for i in range(12): image(tmp_path, f"ALL_IDB2/img/Im{i:03}_{i % 2}.tif")
    assert make_settings(**with_known_set({"set": "all_idb2", "positive": "0"})).positive == "0"
    lay = read("all_idb2", tmp_path, label=r"regex:Im(\d)")
    assert lay.classes == {"0": 12}


# the table

def test_every_set_that_was_promised_is_there_and_names_where_it_is_to_be_had():
    table = known_sets()
    assert list(table.index) == KEYS
    assert table["where"].str.startswith("https://").all() and (table != "").drop(columns="needs").all().all()


@pytest.mark.parametrize("key", KEYS)
def test_every_fact_of_a_set_has_a_source_or_says_that_it_was_not_verified(key):
    facts = known_set(key)
    told = [f for f in (*module.FACTS[1:], "files") if f in facts]
    assert not [f for f in told if f not in facts["sources"] and f not in facts["unverified"]]
    assert not [f for f in facts["unverified"] if f not in facts], "a fact that is not told cannot be unverified"
    own = [s for f, s in facts["sources"].items() if f not in facts["unverified"]]
    assert not [s for s in own if "others" in s and "https://" not in s and "doi " not in s and "arXiv" not in s]
    row = known_sets().loc[key]
    for fact in module.FACTS: assert row[fact].endswith(UNCHECKED) == (fact in facts["unverified"])
    assert facts["files"] and isinstance(facts["name"], str)


def test_every_recipe_is_made_of_settings_that_there_are():
    for key in KEYS:
        if key not in UNREADABLE: make_settings(**settings_of(key))


@pytest.mark.parametrize("key", UNREADABLE)
def test_a_set_of_boxes_or_points_says_what_has_to_be_done_first(key):
    with pytest.raises(InputError, match="cannot be read as it comes: .*cut the cells out"): settings_of(key)
    with pytest.raises(InputError, match="cut the cells out"): with_known_set({"set": key})


@pytest.mark.parametrize("wrong, right", [("cnmc", "cnmc2019"), ("PBC", "pbc"), ("wbcbench", "wbcbench2026"),
                                          ("ALL-IDB1", "all_idb1")])
def test_a_misspelt_set_is_answered_by_the_nearest_one(wrong, right):
    with pytest.raises(InputError, match=f"did you mean '{right}'"): with_known_set({"set": wrong})


def test_changes_and_facts_are_left_as_they_were():
    changes = {"set": "pbc", "seed": 3}
    assert with_known_set(changes) == {"seed": 3} and changes == {"set": "pbc", "seed": 3}
    assert with_known_set({"set": None, "seed": 3}) == {"seed": 3}
    settings_of("cnmc2019")["group"] = "x"
    known_set("cnmc2019")["classes"].append("x")
    assert settings_of("cnmc2019")["group"] == r"regex:UID_(H?\d+)_" and known_set("cnmc2019")["classes"] == ["all",
        "hem"]
