"Boxes on whole fields: three kinds of annotations, hostile ones too, become single cells."

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from leuknb.core import InputError
from leuknb.data.boxes import Box, coco_boxes, crop_boxes, find_annotations, frame_of, voc_boxes, yolo_boxes
from leuknb.data.layouts import layout_of
from leuknb.settings import make_settings

COCO = {"images": [{"id": 1, "file_name": "f0.png"}], "categories": [{"id": 2, "name": "blast"}],
        "annotations": [{"image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 20]}]}


def fields(root, n=2):
    rng = np.random.default_rng(0)
    for i in range(n): Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(root / f"f{i}.png")
    return root


def voc(name="WBC", edges=(5, 5, 25, 25)):
    left, top, right, bottom = edges
    return (f"<annotation><object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object></annotation>")


@pytest.mark.parametrize("text", [
    '<!DOCTYPE a [<!ENTITY x "y">]><annotation/>', '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
    "<annotation>",
    "<svg/>", "", "<annotation>" * 3000])
def test_xml_that_is_no_annotation_or_declares_entities_is_refused(text):
    with pytest.raises(InputError): voc_boxes(text.encode(), "a")


@pytest.mark.parametrize("edge", ["nan", "inf", "1e999", "x", "", "-1e9"])
def test_an_edge_that_is_no_number_makes_no_box(edge):
    assert voc_boxes(voc(edges=(edge, 5, 25, 25)).encode(), "a") == []


@pytest.mark.parametrize("data", ["[]", "{}", "null", "[" * 20_000,
                                  '{"images": 1, "annotations": [], "categories": []}', "no"])
def test_json_that_is_no_coco_file_is_refused(data):
    with pytest.raises(InputError): coco_boxes(data.encode())


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda c: st.lists(c, max_size=4)
                    | st.dictionaries(st.sampled_from(["id", "bbox", "image_id", "category_id", "file_name", "name"]),
                                      c)))
def test_whatever_a_coco_file_holds_boxes_have_finite_edges(value):
    data = json.dumps({**COCO, "annotations": [value, *COCO["annotations"]]}).encode()
    boxes = coco_boxes(data)
    assert boxes[-1] == Box("f0.png", "blast", 10, 10, 30, 30) and np.isfinite([b[2:6] for b in boxes]).all()


@settings(max_examples=100, deadline=None)
@given(*[st.floats(-1e6, 1e6)] * 4, st.floats(0, 4))
def test_a_frame_lies_inside_its_image(left, top, right, bottom, padding):
    x0, y0, x1, y1 = frame_of(Box("a", "b", left, top, right, bottom), 80, 60, padding)
    assert 0 <= x0 and 0 <= y0 and x1 <= 80 and y1 <= 60


def test_yolo_boxes_are_named_by_the_list_of_classes_and_else_numbered():
    assert [b.label for b in yolo_boxes("0 .5 .5 .2 .2\n7 .5 .5 .2 .2\nx", "a", ["RBC"])] == ["RBC", "7"]


def test_each_kind_is_found_beside_the_images_and_cut_once(tmp_path):
    for kind, files in {"Pascal VOC": {"f0.xml": voc(), "f1.xml": voc("RBC", (1, 1, 70, 50))},
                        "YOLO": {"f0.txt": "0 .5 .5 .2 .2", "f1.txt": "1 .5 .5 .2 .2", "classes.txt": "WBC\nRBC"},
                        "COCO": {"all.json": json.dumps(COCO)}}.items():
        root = tmp_path / kind
        root.mkdir()
        fields(root)
        for name, text in files.items(): (root / name).write_text(text)
        found = find_annotations(root, ["f0.png", "f1.png"], sorted(files))
        assert found.kind == kind
        folder = crop_boxes(root, ["f0.png", "f1.png"], found)
        assert folder == crop_boxes(root, ["f0.png", "f1.png"], found)
        table = pd.read_csv(folder / "metadata.csv")
        assert len(table) == len([f for f in files if f.startswith("f")]) or kind == "COCO"


def test_a_set_of_boxes_says_so_and_the_setting_it_names_works(tmp_path):
    root = tmp_path / "bccd"
    root.mkdir()
    fields(root, 4)
    for i in range(4): (root / f"f{i}.xml").write_text(voc(("WBC", "RBC")[i % 2]))
    with pytest.raises(InputError, match="--set boxes=crop"): layout_of(make_settings(data=str(root)))
    found = layout_of(make_settings(data=str(root), boxes="crop"))
    assert found.classes == {"RBC": 2, "WBC": 2} and found.patients == 4 and "Pascal VOC" in found.layout
    with pytest.raises(InputError, match="no box annotations"):
        (tmp_path / "plain/a").mkdir(parents=True)
        fields(tmp_path / "plain/a")
        layout_of(make_settings(data=str(tmp_path / "plain"), boxes="crop"))


def test_what_no_cell_came_of_is_named(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    fields(root, 3)
    (root / "f0.xml").write_text(voc())
    (root / "f1.xml").write_text("<annotation>")
    (root / "f2.xml").write_text(voc("RBC", (1, 1, 2, 2)).replace("<object>", voc()[12:-13] + "<object>", 1))
    found = layout_of(make_settings(data=str(root), boxes="crop", box_padding=0))
    left = dict(found.listing.loc[found.listing["why"] != "", ["file_name", "why"]].to_numpy().tolist())
    assert "annotation: it is no XML" in left["f1.xml"] and "less than four pixels" in left["f2.png (box 2)"]
