"""Whatever a collection of images looks like, it becomes one checked table or one sentence that says what is wrong."""

import csv
import hashlib
import io
import os
import sys
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from leuknb.data import sources
from leuknb.data import datasets
from leuknb.core import InputError, sha256
from leuknb.settings import make_settings
from leuknb.data.images import UnreadableImage
from leuknb.data.labels import positive_class
from leuknb.data.layouts import read_layout
from leuknb.data.sources import COLUMNS
from leuknb.data.datasets import load_dataset, require_enough
from leuknb.data.datasets import summary
from leuknb.data.plots import show_sizes, show_wall


def png(value=0, size=(8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (value % 256, value // 256, 7)).save(file, "PNG")
    return file.getvalue()


def put(root: Path, files: dict) -> Path:
    "Write files, bytes or text, below `root`."
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def two_classes(root: Path, n=6, first=0) -> Path:
    return put(root, {f"{label}/{i:02}.png": png(first + 100 * k + i) for k,
                      label in enumerate(("normal", "abnormal")) for i in range(n)})


def read_metadata(path):
    "The listing of a table that is given itself."
    return read_layout(path.parent, table=path.name).listing


def load(path, **changes):
    return load_dataset(make_settings(data=str(path), **changes))


def why(dataset) -> dict:
    return dict(zip(dataset.skipped["file_name"], dataset.skipped["why"]))


# class folders

def test_class_folders_become_a_sorted_table_with_the_facts_of_each_file(tmp_path):
    d = load(two_classes(tmp_path / "smears"))
    assert list(d.table.columns) == list(COLUMNS)
    assert d.table["file_name"].tolist() == sorted(d.table["file_name"])
    assert (d.name, d.classes, d.positive, d.counts, d.grouped, d.groups, d.synthetic) == (
        "smears", ["abnormal", "normal"], "abnormal", {"abnormal": 6, "normal": 6}, False, None, False)
    row = d.table.iloc[0]
    assert row[["file_name", "label", "group", "width", "height", "mode", "format", "status", "why"]].tolist() == [
        "abnormal/00.png", "abnormal", "", 8, 6, "RGB", "PNG", "ok", ""]
    assert row["sha256"] == sha256(d.read("abnormal/00.png"))
    assert d.y.tolist() == [1] * 6 + [0] * 6 and d.labels.dtype == object


def test_nested_folders_count_for_their_class_and_other_files_for_nothing(tmp_path):
    two_classes(tmp_path)
    put(tmp_path, {"normal/p1/deep/x.PNG": png(500), "normal/README.md": "hello", "normal/.hidden.png": png(),
                   "normal/._x.png": b"mac", ".git/a.png": png(),
                   "normal/.DS_Store": b"", "normal/Thumbs.db": b"", "__MACOSX/normal/a.png": b"", "notes/plan.txt": "",
                   "README.md": ""})
    d = load(tmp_path)
    assert d.classes == ["abnormal", "normal"] and d.counts == {"abnormal": 6, "normal": 7} and d.skipped.empty
    assert "normal/p1/deep/x.PNG" in set(d.usable["file_name"])


def _bomb() -> bytes:
    "A PNG whose header promises 60000 x 60000 pixels."
    data = bytearray(png())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    import zlib
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


BROKEN = {
    "empty.png": (b"", "empty file"),
    "report.jpg": (b"Dear colleague", "not an image"),
    "cut.png": (png(size=(64, 64))[:-30], "cannot be decoded"),
    "zip.tif": (b"PK\x03\x04" + bytes(100), "not an image"),
    "other.heic": (b"\0\0\0\x18ftypheic", "not an image"),
    "bomb.png": (_bomb(), "over the pixel limit"),
    "page.svg": (b"<svg><script>alert(1)</script></svg>", "not an image"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_reason_and_the_run_goes_on(tmp_path, name):
    content, reason = BROKEN[name]
    d = load(put(two_classes(tmp_path), {f"normal/{name}": content}))
    assert len(d.usable) == 12 and reason in why(d)[f"normal/{name}"]
    assert d.skipped["label"].tolist() == ["normal"] and summary(d).loc["normal", "skipped"] == 1


def test_an_image_over_the_pixel_limit_keeps_its_hash_and_is_skipped(tmp_path):
    d = load(put(two_classes(tmp_path), {"normal/large.png": png(3, (40, 40))}), pixel_limit=1000)
    row = d.table[d.table["file_name"] == "normal/large.png"].iloc[0]
    assert row["status"] == "skipped" and "40 x 40" in row["why"] and len(row["sha256"]) == 64


def test_a_file_larger_than_any_image_within_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "HEADER_ROOM", 0)
    d = load(put(two_classes(tmp_path), {"normal/huge.png": bytes(9000)}), pixel_limit=1000)
    assert "9,000 bytes" in why(d)["normal/huge.png"] and d.table["sha256"].eq("").sum() == 1


def test_links_pipes_and_circles_neither_leave_the_folder_nor_hang(tmp_path):
    outside = put(tmp_path / "outside", {"secret.png": png(900)})
    root = two_classes(tmp_path / "smears")
    (root / "normal/leaves.png").symlink_to(outside / "secret.png")
    (root / "normal/inside.png").symlink_to(root / "abnormal/00.png")
    (root / "normal/broken.png").symlink_to("gone.png")
    (root / "normal/self.png").symlink_to("self.png")
    (root / "normal/up").symlink_to("..")
    (root / "normal/away").symlink_to(outside)
    (root / "linked").symlink_to(outside)
    os.mkfifo(root / "normal/pipe.png")
    (root / "normal/folder.png").mkdir()
    d = load(root, positive="abnormal")
    reasons = why(d)
    assert "leaves the folder" in reasons["normal/leaves.png"] and "no such file" in reasons["normal/broken.png"]
    assert "symbolic links" in reasons["normal/self.png"] and "not a regular file" in reasons["normal/pipe.png"]
    assert all("not followed" in reasons[name] for name in ("normal/up", "normal/away", "linked"))
    assert d.counts == {"abnormal": 6, "linked": 0, "normal": 7}
    with pytest.raises(InputError, match="'linked' has 0 usable images"):
        require_enough(d, make_settings(cv_repeats=0, test_size=0.4))
    with pytest.raises(UnreadableImage, match="leaves"): d.read("normal/leaves.png")
    with pytest.raises(UnreadableImage): d.read("../outside/secret.png")


def test_odd_names_stay_what_they_are(tmp_path):
    names = ["<script>alert(1)<script>.png", "=1+1.png", "line\nbreak.png", "Zoë 細胞.png", "x" * 246 + ".png",
             "a,b;c\".png", " space .png"]
    d = load(put(two_classes(tmp_path), {f"normal/{name}": png(600 + i) for i, name in enumerate(names)}))
    assert d.skipped.empty and {f"normal/{name}" for name in names} <= set(d.usable["file_name"])


def test_a_name_that_is_not_utf_8_is_skipped_with_a_name_that_can_be_written(tmp_path):
    root = two_classes(tmp_path)
    with open(os.path.join(os.fsencode(root), b"normal", b"M\xfcller.png"), "wb") as f: f.write(png(800))
    d = load(root)
    assert why(d) == {"normal/M\\udcfcller.png": "the file name is not UTF-8"}
    d.table.to_csv(tmp_path / "out.csv")


def test_images_beside_the_class_folders_are_named(tmp_path):
    d = load(put(two_classes(tmp_path), {"overview.png": png(700)}))
    assert "in none of them" in why(d)["overview.png"] and d.skipped["label"].tolist() == [""]
    assert summary(d).index.tolist() == ["abnormal", "normal", "(no class)", "all"]


@pytest.mark.parametrize(("files", "says"), [
    ({"a.png": png()}, "no class folder"), ({"notes.txt": ""}, "no image"),
    ({"normal/a.png": png()}, "one class, 'normal'"),
    ({"train/a/x.png": png(), "test/b/y.png": png()}, "name splits"),
    ({"normal/a.png": b"", "abnormal/b.png": b""}, "no usable image among 2"),
])
def test_a_folder_without_two_classes_is_a_clear_error(tmp_path, files, says):
    with pytest.raises(InputError, match=says): load(put(tmp_path / "smears", files))


@pytest.mark.parametrize(("data", "says"), [
    ("smeers", "did you mean 'smears'"), ("synthetc", "did you mean 'synthetic'"), ("note.txt", "no table of images"),
    ("", "not there"), ("\0", "not there"), ("x" * 5000, "not there"),
    ("ftp:somewhere", "kaggle:owner/name"),
])
def test_data_that_is_not_there_names_what_is_accepted(tmp_path, monkeypatch, data, says):
    two_classes(tmp_path / "smears"); put(tmp_path, {"note.txt": ""})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says): load(data)


# metadata.csv

def with_metadata(root: Path, text: str | bytes, n=6) -> Path:
    return put(two_classes(root, n), {"metadata.csv": text})


def rows(extra="", n=6, sep=",") -> str:
    lines = [["file_name", "label", "patient_id"]] + [[f"{label}/{i:02}.png", label, f"00{i}"]
                                                      for label in ("normal", "abnormal") for i in range(n)]
    return "\n".join(sep.join(line) for line in lines) + "\n" + extra


@pytest.mark.parametrize("encode", [
    lambda t: t.encode(), lambda t: t.encode("utf-8-sig"), lambda t: t.encode("utf-16"),
    lambda t: t.replace("\n", "\r\n").encode(), lambda t: t.replace("\n", "\r").encode(),
    lambda t: t.replace(",", ";").encode(), lambda t: t.replace(",", "\t").encode("utf-16"),
    lambda t: t.replace("\n", ",,\n").encode(),
    lambda t: t.replace("\n", "\n\n").encode(), lambda t: t.replace("/", "\\").encode(),
    lambda t: t.replace("\n", " \n").encode(),
    lambda t: "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in t.splitlines()).encode(),
], ids="utf-8 mark utf-16 crlf cr semicolons tabs trailing-commas blank-lines backslashes spaces quotes".split())
def test_the_same_table_is_read_however_a_spreadsheet_wrote_it(tmp_path, encode):
    plain = load(with_metadata(tmp_path / "a", rows()))
    other = load(with_metadata(tmp_path / "b", encode(rows())))
    pd.testing.assert_frame_equal(plain.table, other.table)
    assert plain.groups.tolist()[:2] == ["000", "001"] and plain.fingerprint == other.fingerprint


def test_latin_1_lines_among_utf_8_lines_are_both_read(tmp_path):
    text = rows().encode() + "abnormal/Müller.png,abnormal,Müller\n".encode(
        "latin-1") + "abnormal/Zoë.png,abnormal,Zoë\n".encode()
    d = load(put(with_metadata(tmp_path, text), {"abnormal/Müller.png": png(700), "abnormal/Zoë.png": png(701)}))
    assert d.skipped.empty and {"Müller", "Zoë"} <= set(d.groups)


def test_labels_and_patients_stay_text_and_other_columns_follow(tmp_path):
    text = "split,file_name,label,patient_id,width,cell type\n" + "".join(f"train,{c}/{i:02}.png,{k},007,1e3,blast\n"
        for k, c in enumerate(("normal", "abnormal")) for i in range(6))
    d = load(with_metadata(tmp_path, text), positive="1")
    assert d.classes == ["0", "1"] and set(d.groups) == {"007"}
    assert list(d.table.columns) == [*COLUMNS, "metadata_width", "cell type"]
    assert d.table.loc[0, ["width", "metadata_width", "cell type", "split"]].tolist() == [8, "1e3", "blast", "train"]


def test_rows_that_cannot_be_used_stay_with_their_reason(tmp_path):
    extra = """normal/00.png,normal,1
normal/gone.png,normal,1
/etc/passwd,normal,1
C:\\images\\zz.png,normal,1
../outside.png,normal,1
normal/../normal/01.png,normal,1
,normal,1
abnormal/05.png,normal,1
abnormal,abnormal,1
extra/a.png,,1
normal/b.png,normal,1,2,3
normal/nul\0.png,normal,1
"""
    d = load(put(with_metadata(tmp_path / "in", rows(extra)),
                 {"../outside.png": png(), "extra/a.png": png(), "normal/b.png": png(600)}))
    found = d.table.loc[~d.ok].groupby("file_name")["why"].agg(list).to_dict()
    expected = {"normal/00.png": "listed before", "normal/gone.png": "no such file", "/etc/passwd": "absolute",
                "C:/images/zz.png": "absolute", "../outside.png": "climbs out",
                "normal/../normal/01.png": "climbs out", "": "no file name", "abnormal": "not a regular file",
                "extra/a.png": "no label", "normal/b.png": "5 cells",
                "normal/nul\\u0000.png": "null"}
    for name, reason in expected.items(): assert any(reason in w for w in found.pop(name)), name
    assert found == {"abnormal/05.png": ["listed under several labels: abnormal, normal"] * 2}
    assert len(d.usable) == 11 and d.table["file_name"].is_monotonic_increasing


def test_only_listed_images_count_but_a_forgotten_neighbour_is_named(tmp_path):
    root = put(with_metadata(tmp_path, rows()), {"masks/00.png": png(), "normal/new.png": png(800),
                                                 "normal/cut.jpg": b"no", "normal/notes.txt": ""})
    d = load(root)
    assert d.classes == ["abnormal", "normal"] and len(d.usable) == 12
    assert why(d)["normal/new.png"] == "not listed in metadata.csv"
    assert why(d)["normal/cut.jpg"].startswith("not listed in metadata.csv: not an image")
    assert set(why(d)) == {"normal/new.png", "normal/cut.jpg"}


@pytest.mark.parametrize(("text", "says"), [
    ("", "it has none"), ("\n\n", "it has none"), ("name,class\na,b", "no column 'file_name': it has 'name', 'class'"),
    ("file_name,label", "lists no file"),
    ("file_name,label\n,,\n", "lists no file"), ("file_name,lable\na.png,x", "did you mean 'lable'"),
    ("file_name,label,label\na,b,c", "'label' twice"),
    (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "no column 'file_name'"),
    ("file_name,label\n\"" + "x" * 200_000, "after line .*field larger"), ("x" * 200_000, "after line 1.*field larger"),
])
def test_a_metadata_file_without_what_is_needed_says_what_it_has(tmp_path, text, says):
    with pytest.raises(InputError, match=says): load(with_metadata(tmp_path, text))


def test_the_group_column_can_be_named_and_must_exist_then(tmp_path):
    root = with_metadata(tmp_path, rows().replace("patient_id", "person"))
    assert not load(root).grouped and load(root, group="person").grouped
    with pytest.raises(InputError, match="no column 'persn'.*did you mean 'person'"): load(root, group="persn")
    (root / "metadata.csv").unlink()
    with pytest.raises(InputError, match="no table that names its images"): load(root, group="person")


def test_a_csv_given_by_its_path_is_a_choice_of_files(tmp_path):
    two_classes(tmp_path / "smears")
    chosen = rows(n=4)
    put(tmp_path / "smears", {"chosen.csv": chosen, "metadata.csv": rows()})
    d = load(tmp_path / "smears" / "chosen.csv")
    assert (d.name, len(d.table), len(d.usable), d.root.name) == ("chosen", 8, 8, "smears")
    assert load(tmp_path / "smears" / "metadata.csv").name == "smears"


def test_many_rows_are_read_in_a_straight_line(tmp_path):
    def seconds(n):
        path = put(tmp_path, {f"{n}.csv": "file_name,label\n" + "".join(f"{i // 2}.png,{'ab'[i % 3 == 0]}\n"
            for i in range(n))}) / f"{n}.csv"
        start = time.perf_counter()
        assert len(read_metadata(path)) == n
        return time.perf_counter() - start

    seconds(1000)
    assert seconds(50_000) < 40 * max(seconds(5_000), 0.02)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: ("file_name,label\n" + t).encode("utf-8",
    "replace")))
def test_any_bytes_give_rows_or_one_sentence(tmp_path, data):
    path = put(tmp_path, {"any.csv": data}) / "any.csv"
    try: table = read_metadata(path)
    except InputError as e: assert str(e)
    else:
        assert list(table.columns[:6]) == ["file_name", "label", "group", "site", "split",
                                           "why"] and not table.isna().any().any()
        usable = table[table["why"] == ""]
        assert usable["file_name"].is_unique and (usable["label"] != "").all()
        assert not any(name.startswith("/") or ".." in name.split("/") for name in usable["file_name"])


CELLS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8), st.sampled_from(",;\t"),
       st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_what_a_csv_writer_wrote_is_read_back(tmp_path, cells, delimiter, encoding):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["file_name", "label", "note"])
    writer.writerows([f"a{name}.png", f"b{label}", note] for name, label, note in cells)
    table = read_metadata(put(tmp_path, {"w.csv": text.getvalue().encode(encoding)}) / "w.csv")
    assert table["label"].tolist() == [f"b{label}".strip() for _, label, _ in cells]
    assert table["note"].tolist() == [note.strip() for _, _, note in cells]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30) | st.lists(st.sampled_from(["..", ".", "a", "out", "", "normal", "~", "\0", "C:"]),
                                       max_size=6).map("/".join))
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    root = put(tmp_path / "in", {"a/x.png": png(), "normal/x.png": png()}).resolve()
    put(tmp_path, {"out/x.png": b"secret"})
    if not (root / "out").is_symlink(): (root / "out").symlink_to(tmp_path / "out")
    for listed in (name, f"{name}/x.png"):
        try: real = sources.locate(root, listed)
        except UnreadableImage as e: assert str(e)
        else: assert Path(real).is_relative_to(root) and Path(real).is_file()


# positive class

@pytest.mark.parametrize(("classes", "positive"), [
    (["abnormal", "normal"], "abnormal"), (["Leukemia", "Healthy"], "Leukemia"), (["leukaemic", "normal"], "leukaemic"),
    (["BLASTS", "other"], "BLASTS"),
    (["immature", "mature"], "immature"), (["Malignant", "Benign"], "Malignant"), (["aml", "control"], "aml"),
    (["all", "hem"], "all"),
    (["patient", "donor"], "patient"), (["AML_cells", "normal cells"], "AML_cells"),
    (["cancer", "non-cancer"], "cancer"), (["leukemia", "no leukemia"], "leukemia"),
])
def test_common_names_of_disease_are_recognised(classes, positive):
    assert positive_class(sorted(classes)) == positive


@pytest.mark.parametrize("classes", [["0", "1"], ["a", "b"], ["aml", "all"], ["erythroblast", "normoblast"],
                                     ["small", "tall"]])
def test_names_that_leave_the_positive_class_open_are_an_error_with_the_mend(classes):
    with pytest.raises(InputError, match="--set positive="): positive_class(classes)
    assert positive_class(classes, classes[1]) == classes[1]


def test_a_positive_class_that_is_none_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="did you mean 'abnormal'"): load(two_classes(tmp_path), positive="abnormall")


def test_more_than_two_classes_need_no_positive_one(tmp_path):
    d = load(put(two_classes(tmp_path), {f"band/{i}.png": png(300 + i) for i in range(6)}))
    assert d.positive is None and sorted(set(d.y)) == [0, 1, 2] and d.labels[d.y == 2].tolist() == ["normal"] * 6


# enough for the split

def test_a_class_left_with_too_few_images_is_named_with_how_many_were_skipped(tmp_path):
    d = load(put(two_classes(tmp_path), {f"normal/{i:02}.png": b"broken" for i in range(3)}))
    with pytest.raises(InputError,
                       match=r"class 'normal' has 3 usable images \(3 skipped\).*5-fold cross-validation needs 5|class "
                             r"'normal' has 3 usable images \(3 skipped\).*holdout"):
        require_enough(d, make_settings())
    assert require_enough(d, make_settings(cv_folds=3, test_size=0.4)) is d


def test_too_few_groups_are_named_because_groups_are_never_divided(tmp_path):
    d = load(with_metadata(tmp_path, rows().replace("003", "001").replace("004", "001").replace("005", "001")))
    with pytest.raises(InputError, match="3 groups .column patient_id.*5 are needed"):
        require_enough(d, make_settings())
    assert require_enough(d, make_settings(cv_folds=3))


# sources

def test_a_source_is_resolved_only_when_asked_for(tmp_path, monkeypatch):
    two_classes(tmp_path / "drawn")
    fake = types.ModuleType("fake_source")
    fake.synthetic_folder = lambda s: tmp_path / "drawn" if s.data == "synthetic" else None
    monkeypatch.setitem(sys.modules, "fake_source", fake)
    monkeypatch.setitem(sources.SOURCES, "synthetic", "fake_source:synthetic_folder")
    d = load("synthetic")
    assert (d.name, d.synthetic, len(d.usable)) == ("synthetic", True, 12)
    assert "synthetic images" in show_wall(d, 2).get_suptitle() and "synthetic images" in show_sizes(d).get_title()


def test_a_written_out_synthetic_folder_is_still_said_to_be_synthetic(tmp_path):
    two_classes(tmp_path)
    assert not load(tmp_path).synthetic
    assert load(put(tmp_path, {"synthetic.json": "{}"})).synthetic


@pytest.mark.parametrize(("data", "module", "extra"),
                         [("kaggle:a/b", "kagglehub", "kaggle"), ("medmnist:bloodmnist", "medmnist", "medmnist")])
def test_a_missing_extra_is_told_with_the_command_that_installs_it(monkeypatch, data, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install leuknb\[{extra}\]"): load(data)


def fake_kagglehub(monkeypatch, download):
    module = types.ModuleType("kagglehub")
    module.dataset_download = download
    monkeypatch.setitem(sys.modules, "kagglehub", module)


def test_a_kaggle_archive_is_entered_through_its_lone_folders(tmp_path, monkeypatch):
    two_classes(tmp_path / "version/archive/Smears")
    fake_kagglehub(monkeypatch, lambda handle: str(tmp_path / "version"))
    d = load("kaggle:owner/smears")
    assert (d.name, d.root.name, len(d.usable)) == ("kaggle:owner/smears", "Smears", 12)


def test_a_download_that_fails_says_what_to_do(monkeypatch):
    def fail(handle): raise ConnectionError("no route\nlong story")

    fake_kagglehub(monkeypatch, fail)
    with pytest.raises(InputError, match=r"no route\).*by hand") as e: load("kaggle:owner/smears")
    assert "long story" not in str(e.value)
    with pytest.raises(InputError, match="kaggle:owner/name"): load("kaggle:../../etc")


def test_a_version_that_kagglehub_has_in_its_cache_is_read_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("kagglehub", reason="kagglehub is not installed")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    set_ = tmp_path / "datasets" / "ward7" / "smears"  # as kagglehub lays it out
    two_classes(set_ / "versions" / "3" / "archive")
    (set_ / "3.complete").touch()
    d = load("kaggle:ward7/smears/versions/3")
    assert len(d.usable) == 12 and d.root.is_relative_to(set_ / "versions" / "3")


def test_the_table_that_medmnist_ships_is_read_as_it_is(tmp_path, monkeypatch):
    info = pytest.importorskip("medmnist", reason="medmnist is not installed").INFO["bloodmnist"]
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    archive = tmp_path / "home" / "medmnist" / "archives" / "bloodmnist.npz"
    archive.parent.mkdir(parents=True)
    labels = np.arange(16, dtype=np.uint8)[:, None] % 8
    pixels = np.arange(16 * 28 * 28 * 3).reshape(16, 28, 28, 3).astype(np.uint8)
    np.savez(archive, **{f"{split}_images": pixels + k for k, split in enumerate(("train", "val", "test"))},
             **{f"{split}_labels": labels for split in ("train", "val", "test")})
    monkeypatch.setitem(info, "MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    d = load("medmnist:bloodmnist")
    assert set(d.counts) == set(info["label"].values()) and set(d.counts.values()) == {6}


def fake_medmnist(monkeypatch, folder, damaged=False):
    archive = folder / "bloodmnist.npz"
    images = {f"{split}_images": np.stack([np.full((28, 28, 3), 40 * i + 3 * len(split), np.uint8) for i in range(6)])
              for split in ("train", "val", "test")}
    np.savez(archive, **images, **{f"{split}_labels": np.arange(6)[:, None] % 2 for split in ("train", "val", "test")})
    md5 = "0" * 32 if damaged else hashlib.md5(archive.read_bytes()).hexdigest()
    module = types.ModuleType("medmnist")
    module.INFO = {"bloodmnist": {"url": archive.as_uri(), "MD5": md5, "task": "multi-class",
                                  "label": {"0": "basophil, large", "1": "erythroblast"}},
                   "chestmnist": {"task": "multi-label, binary-class"}, "organmnist3d": {"task": "multi-class"}}
    monkeypatch.setitem(sys.modules, "medmnist", module)
    return archive


def test_medmnist_becomes_png_files_with_its_own_split_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    archive = fake_medmnist(monkeypatch, tmp_path)
    d = load("medmnist:bloodmnist", positive="erythroblast")
    assert d.counts == {"basophil, large": 9, "erythroblast": 9} and set(d.table["split"]) == {"train", "val", "test"}
    archive.unlink()
    monkeypatch.setitem(sys.modules, "medmnist", None)
    assert load("medmnist:bloodmnist", positive="erythroblast").fingerprint == d.fingerprint


@pytest.mark.parametrize("damaged", [True, False])
def test_a_medmnist_download_that_fails_or_is_damaged_leaves_nothing(tmp_path, monkeypatch, damaged):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    archive = fake_medmnist(monkeypatch, tmp_path, damaged)
    if not damaged: archive.unlink()
    with pytest.raises(InputError, match="bloodmnist.npz"): load("medmnist:bloodmnist")
    assert not list((tmp_path / "home").rglob("*.npz")) and not (tmp_path / "home/medmnist/bloodmnist").exists()
    for name in ("chestmnist", "organmnist3d", "bloodmnst"):
        with pytest.raises(InputError, match="bloodmnist"): load(f"medmnist:{name}")
    with pytest.raises(InputError): load("medmnist:../../x")


def test_a_medmnist_archive_put_there_by_hand_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    archive = fake_medmnist(monkeypatch, tmp_path)
    (tmp_path / "home/medmnist/archives").mkdir(parents=True)
    archive.rename(tmp_path / "home/medmnist/archives/bloodmnist.npz")
    assert len(load("medmnist:bloodmnist", positive="erythroblast").usable) == 18


# decoded once

def loads_of(monkeypatch) -> list:
    "The files that are decoded from now on."
    seen, before = [], datasets.open_image

    def counted(data, pixel_limit, load=True):
        if load: seen.append(data)
        return before(data, pixel_limit, load)

    monkeypatch.setattr(datasets, "open_image", counted)
    return seen


def test_a_file_is_decoded_once_wherever_it_lies_and_the_table_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    first = load(put(two_classes(tmp_path / "a"), {"normal/cut.png": png()[:50]}))
    decoded = loads_of(monkeypatch)
    second = load(put(two_classes(tmp_path / "b"), {"normal/cut.png": png()[:50], "normal/new.png": png(7000)}))
    assert sorted(decoded) == sorted([png()[:50], png(7000)])  # what cannot be used is looked at each time
    pd.testing.assert_frame_equal(first.table,
                                  second.table[second.table["file_name"] != "normal/new.png"].reset_index(drop=True))


def test_another_pixel_limit_is_judged_anew_and_a_damaged_cache_costs_nothing_but_time(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    root = two_classes(tmp_path / "a")
    table = load(root).table
    with pytest.raises(InputError, match="over the pixel limit"): load(root, pixel_limit=40)
    for kept in (tmp_path / "home/facts").iterdir(): kept.write_bytes(kept.read_bytes()[:100])
    decoded = loads_of(monkeypatch)
    pd.testing.assert_frame_equal(load(root).table, table)
    assert len(decoded) == 12


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    assert len(load(two_classes(tmp_path / "a")).usable) == 12


def test_the_memory_of_decoded_files_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets, "MOST_DECODED", 5)
    load(two_classes(tmp_path / "a"))
    kept = datasets.decoded_before()
    assert len(kept) == 5
    load(put(two_classes(tmp_path / "a"), {"normal/z.png": png(7000)}))
    assert sha256(png(7000)) in datasets.decoded_before() and len(datasets.decoded_before()) == 5


# one table, again and again

def test_two_threads_give_the_table_of_one(tmp_path, monkeypatch):
    root = put(two_classes(tmp_path, 100), {"normal/z.png": b""})
    two = load(root)
    monkeypatch.setattr(datasets, "_in_two_threads", lambda function, items: map(function, items))
    one = load(root)
    pd.testing.assert_frame_equal(one.table, two.table)
    assert one.fingerprint == two.fingerprint


def test_the_fingerprint_follows_content_and_labels_not_the_place(tmp_path):
    a, b = load(two_classes(tmp_path / "a")), load(two_classes(tmp_path / "b"))
    assert a.fingerprint == b.fingerprint
    assert load(put(tmp_path / "b", {"normal/broken.png": b""})).fingerprint == a.fingerprint
    assert load(with_metadata(tmp_path / "b", rows())).fingerprint != a.fingerprint
    assert load(two_classes(tmp_path / "c", first=1)).fingerprint != a.fingerprint


def test_the_wall_shows_every_class_and_few_images_leave_gaps(tmp_path):
    d = load(put(two_classes(tmp_path, 2), {f"band/{i}.png": png(i) for i in range(9)}))
    figure = show_wall(d, per_class=4)
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 0, 0] + [1] * 4 + [1, 1, 0, 0]
    assert "synthetic" not in figure.get_suptitle()


# real images

@pytest.mark.parametrize(("name", "counts", "groups"), [
    ("blast195", {"abnormal": 99, "normal": 96}, 71), ("confound195", {"abnormal": 99, "normal": 96}, 0),
    ("deepapl", {"immature": 678, "mature": 870}, 73), ("pbc", None, 0)])
def test_real_sets_are_read_whole(real_data, name, counts, groups):
    d = load(real_data(name))
    assert d.skipped.empty and (len(set(d.groups)) if d.grouped else 0) == groups
    assert d.counts == (counts or dict.fromkeys(d.classes, 40))
    assert require_enough(d, make_settings()) is d


def test_both_truncated_jpegs_are_named_among_good_images(real_data, tmp_path):
    root = two_classes(tmp_path)
    corrupt = {f"normal/{p.name}": p.read_bytes() for p in real_data("corrupt").glob("*.jpg")}
    reasons = why(load(put(root, corrupt)))
    assert set(reasons) == set(corrupt) and all("truncated" in r for r in reasons.values()) and len(reasons) == 2


def test_a_truncated_image_is_named_whatever_another_library_asked_of_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as WeasyPrint does when it is imported
    root = put(two_classes(tmp_path), {"normal/cut.png": png(size=(64, 64))[:-40]})
    assert "truncated" in why(load(root))["normal/cut.png"]


def test_list_folders_alone_needs_no_image_to_be_good(tmp_path):
    assert len(read_layout(put(tmp_path, {"a/x.png": b"", "b/y.jpg": b""})).listing) == 2
