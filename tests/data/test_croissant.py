"""The description of a set is valid Croissant, loads into its table, and says nothing that the table does not."""

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from leuknb.data.croissant import CONFORMS_TO, croissant, data_card, LISTING, write_croissant
from leuknb.data.datasets import load_dataset
from leuknb.data.inspection import inspect
from leuknb.data.layouts import layout_of
from leuknb.settings import make_settings


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), "uint8")).save(path)


@pytest.fixture()
def smears(tmp_path):
    """24 images of 8 people at two places, with columns of their own: one of numbers with a gap, one with spaces and
    quotes.
    """
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["file_name", "label", "patient_id", "site", "split", "Age at Diagnosis", "note", "stain lot"])
    for i in range(24):
        person, ill = i // 3, i // 3 < 3
        name = f"images/c{i:02}.{'png' if i % 2 else 'jpg'}"
        image(tmp_path / "smears" / name, i)
        rows.writerow([name, "1" if ill else "0", f"P{person}", "north" if ill or person % 2 else "south",
                       "test" if person in (2, 7) else "train", "" if person == 4 else 30 + person,
                       'a "fine" one, really' if i == 3 else "", 7])
    (tmp_path / "smears" / "metadata.csv").write_text(out.getvalue())
    return tmp_path / "smears"


def settings(folder, **changes): return make_settings(data=str(folder), positive="1", **changes)


@pytest.fixture(params=["layout", "inspection", "dataset"])
def subject(request, smears):
    if request.param == "layout": return layout_of(settings(smears))
    return inspect(smears, positive="1") if request.param == "inspection" else load_dataset(settings(smears))


def validated(path: Path):
    "The description as mlcroissant reads it, and what it complains of."
    mlcroissant = pytest.importorskip("mlcroissant")
    found = mlcroissant.Dataset(str(path))
    return found, found.metadata.ctx.issues


# Croissant

def test_mlcroissant_finds_no_error_and_misses_only_what_the_table_cannot_know(subject, tmp_path):
    found, issues = validated(write_croissant(subject, tmp_path / "out.json"))
    assert not issues.errors
    missed = {w.rpartition('"')[0].rpartition("/")[2] for w in issues.warnings}
    assert missed <= {"citeAs", "datePublished", "license", "version"}, issues.warnings
    assert str(found.metadata.ctx.conforms_to.value).endswith("croissant/1.1")


def test_what_is_known_beside_the_table_leaves_mlcroissant_nothing_to_miss(smears, tmp_path):
    path = write_croissant(layout_of(settings(smears)), tmp_path / "out.json", version="1.0.0", citeAs="Us 2026",
                           license="https://creativecommons.org/licenses/by/4.0/", datePublished="2026-11-01")
    _, issues = validated(path)
    assert not issues.errors and not issues.warnings


def test_the_records_that_mlcroissant_loads_are_the_rows_of_the_table(subject, smears, tmp_path):
    found, _ = validated(write_croissant(subject, tmp_path / "out.json"))
    names = {f["@id"]: f["name"] for f in croissant(subject)["recordSet"][0]["field"]}
    records = pd.DataFrame(list(found.records("images"))).rename(columns=names)
    plain = records.map(lambda v: v.decode() if isinstance(v, bytes) else v)
    given = pd.read_csv(smears / "metadata.csv", dtype="str", keep_default_na=False)
    both = plain.merge(given, on="file_name", suffixes=("", "_given"))
    assert len(both) == len(given) == 24
    assert both["label"].astype("str").tolist() == both["label_given"].tolist()
    assert both["group"].tolist() == both["patient_id"].tolist()
    assert both["note"].fillna("").replace("nan", "").tolist() == both["note_given"].tolist()
    ages = pd.to_numeric(both["Age at Diagnosis"], errors="coerce")
    assert ages.isna().sum() == 3 and ages.dropna().tolist() == [float(a) for a in both["Age at Diagnosis_given"] if a]


def test_an_invalid_description_is_told_by_the_same_check(smears, tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant")
    path = write_croissant(layout_of(settings(smears)), tmp_path / "out.json")
    wrong = json.loads(path.read_text())
    wrong["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "nothing"
    path.write_text(json.dumps(wrong))
    with pytest.raises(mlcroissant.ValidationError): validated(path)


def test_the_table_beside_the_description_has_the_hash_and_the_name_that_it_gives(subject, tmp_path):
    path = write_croissant(subject, tmp_path / "deep" / "my set.json")
    told = json.loads(path.read_text())["distribution"][0]
    beside = path.parent / told["contentUrl"]
    assert beside.name == "my set-listing.csv" and hashlib.sha256(beside.read_bytes()).hexdigest() == told["sha256"]
    assert croissant(subject)["distribution"][0]["contentUrl"] == LISTING


def test_a_description_written_into_the_set_leaves_its_own_table_alone(smears):
    before = (smears / "metadata.csv").read_bytes()
    write_croissant(layout_of(settings(smears)), smears / "metadata.json")
    assert (smears / "metadata.csv").read_bytes() == before


def test_layout_inspection_and_dataset_of_one_set_give_the_same_table(smears, tmp_path):
    subjects = layout_of(settings(smears)), inspect(smears, positive="1"), load_dataset(settings(smears))
    tables = []
    for i, s in enumerate(subjects):
        write_croissant(s, tmp_path / f"{i}.json")
        rows = pd.read_csv(tmp_path / f"{i}-listing.csv", dtype="str", keep_default_na=False)
        tables.append(rows.sort_values("file_name", ignore_index=True)[sorted(rows)])
    for t in tables[1:]: pd.testing.assert_frame_equal(tables[0], t)


def test_types_follow_the_values_and_labels_stay_names(subject):
    fields = {f["name"]: f for f in croissant(subject)["recordSet"][0]["field"]}
    kinds = {name: f["dataType"] for name, f in fields.items()}
    assert kinds["label"] == "sc:Text" and kinds["Age at Diagnosis"] == "sc:Float"
    assert kinds["stain lot"] == "sc:Integer" and kinds["note"] == "sc:Text"
    assert list(fields)[:5] == ["file_name", "label", "group", "site", "split"]


def test_columns_that_differ_in_spaces_only_stay_two(tmp_path):
    rows = ["file_name,label,stain lot,stain_lot,stain-lot"]
    for i in range(8):
        image(tmp_path / "set" / f"{i}.png", i)
        rows.append(f"{i}.png,{'blast' if i % 2 else 'normal'},a{i},b{i},c{i}")
    (tmp_path / "set" / "metadata.csv").write_text("\n".join(rows))
    lay = layout_of(make_settings(data=str(tmp_path / "set")))
    fields = croissant(lay)["recordSet"][0]["field"]
    ids = [f["@id"] for f in fields]
    assert len({*ids}) == len(ids) == 8 and not any(" " in i for i in ids)
    found, issues = validated(write_croissant(lay, tmp_path / "out.json"))
    assert not issues.errors and len(list(found.records("images"))) == 8


def test_every_used_image_is_in_a_file_set_and_masks_and_broken_ones_are_in_none(smears):
    (smears / "images" / "c00.jpg").write_text("no image")
    described = croissant(inspect(smears, positive="1"))
    sets = {f["@id"]: f for f in described["distribution"][1:]}
    assert {f["encodingFormat"] for f in sets.values()} == {"image/png", "image/jpeg"}
    assert sets["files-jpeg"]["includes"] == ["**/*.jpg"]
    assert "1 file left out: not an image" in described["rai:dataCollectionMissingData"]


# what is said, and what is not

def test_the_responsible_fields_hold_what_the_table_counts(subject):
    found = croissant(subject)
    assert found["conformsTo"] == CONFORMS_TO
    assert "all images of 1 come from one site, north" in found["rai:dataBiases"]
    assert "column Age at Diagnosis is empty for 3 of 24 images" in found["rai:dataCollectionMissingData"]
    told = " ".join(found["rai:personalSensitiveInformation"])
    assert "8 patients" in told and "Age at Diagnosis" in told and "stain lot" not in told
    assert "rai:dataLimitations" not in found, "patients and sites are named: nothing is said against them"


def test_nothing_is_said_of_collection_annotation_use_or_licence(subject):
    allowed = {"rai:dataCollectionMissingData", "rai:dataBiases", "rai:dataLimitations",
               "rai:personalSensitiveInformation"}
    assert {k for k in croissant(subject) if k.startswith("rai:")} <= allowed
    assert not {"license", "creator", "citeAs", "url", "datePublished", "version"} & {*croissant(subject)}


def test_a_set_without_patients_and_sites_says_so_and_tells_of_no_person(tmp_path):
    for i in range(20): image(tmp_path / ("blast" if i < 3 else "normal") / f"{i}.png", i)
    found = croissant(layout_of(make_settings(data=str(tmp_path))))
    assert any("patients are not named" in t for t in found["rai:dataLimitations"])
    assert any("sites are not named" in t for t in found["rai:dataLimitations"])
    assert "normal has 17 images, blast 3" in found["rai:dataBiases"]
    assert "rai:personalSensitiveInformation" not in found and "rai:dataCollectionMissingData" not in found


def test_patients_known_in_part_are_counted_and_the_rest_told(tmp_path):
    rows = ["file_name,label,patient_id"]
    for i in range(12):
        image(tmp_path / f"{i}.png", i)
        rows.append(f"{i}.png,{'blast' if i < 6 else 'normal'},{f'P{i // 2}' if i < 8 else ''}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    card = data_card(layout_of(make_settings(data=str(tmp_path))))["answer"]
    assert card["patients"] == "4 (blast 3, normal 1), 2 to 2 images each; 4 images name none"
    assert "4 of 12 images name no patient" in card["missing"]


# the card

def test_the_card_has_a_row_for_every_question_whatever_the_set_tells(subject, tmp_path):
    for i in range(8): image(tmp_path / "bare" / ("a" if i % 2 else "b") / f"{i}.png", 50 + i)
    always = ["set", "read as", "images", "classes", "patients", "sites", "parts", "missing", "to bear in mind"]
    for s in (subject, layout_of(make_settings(data=str(tmp_path / "bare"), positive="a"))):
        card = data_card(s)
        assert [q for q in card.index if not q.startswith("column ")] == always
        assert card.columns.tolist() == ["answer"] and (card["answer"] != "").all()
        assert not card["answer"].str.contains("<").any(), "a table, not HTML"


def test_the_card_counts_what_is_there(subject):
    card = data_card(subject)["answer"]
    assert card["images"].startswith("24 used") and card["classes"] == "0 15, 1 9"
    assert card["patients"] == "8 (0 5, 1 3), 3 to 3 images each"
    assert card["sites"] == "north 18, south 6" and card["parts"] == "test 6, train 18"
    assert card["column stain lot"] == "7 24"


def test_an_unreadable_file_is_in_the_card_of_an_inspection_and_of_a_dataset(smears):
    (smears / "images" / "c05.png").write_text("no image")
    for s in (inspect(smears, positive="1"), load_dataset(settings(smears))):
        card = data_card(s)["answer"]
        assert card["images"].startswith("23 used") and "1 file left out: not an image" in card["missing"]
