"""Folders and metadata.csv as an adversary or a tired colleague leaves them: every file is used or named with a
reason, or one sentence refuses the set.
"""

import os
import resource
import socket
import stat
import time
import unicodedata

import pandas as pd
import pytest
from inputs import SEEDS, picture

from leuknb.core import InputError
from leuknb.settings import make_settings
from leuknb.data.datasets import load_dataset

NAMES = {  # odd names of files in a class folder -> what must come of them
    "plain.png": "ok", "<img src=x onerror=alert(1)>.png": "ok", "<script>alert(document.domain)<\\script>.png": "ok",
         "\" onload=\"alert(1).png": "ok", "' onload='alert(1).png": "ok",
    "javascript:alert(1).png": "ok", "&lt;b&gt;.png": "ok", "{{7*7}}{% x %}.png": "ok", "${HOME}$(id)`id`.png": "ok",
         "$\\frac{$.png": "ok", "; rm -rf x;.png": "ok", "-rf.png": "ok", "--help.png": "ok",
    "=1+1.png": "ok", "=HYPERLINK(\"x\",\"y\").png": "ok", "+1+1.png": "ok", "-1+1.png": "ok", "@SUM(1,2).png": "ok",
         "'=1.png": "ok", "a;=1+1.png": "skip", "tab\t=1.png": "skip", "line\n=1.png": "skip",
    "line\nbreak.png": "ok", "return\rhere.png": "skip", "bell\a.png": "skip", "\x1b[31mred.png": "skip",
         "\u202egnp.exe.png": "skip", "\u200f\u05d0\u05d1.png": "ok",
    "comma, and \"quote\".png": "ok", "percent%2e%2e%2f.png": "ok", "..png": None, "...x.png": None,
         "back\\slash.png": "ok", "C:drive.png": "ok", "con.png": "ok", " space .png": "ok", "NA.png": "ok",
         "nan": None,
    unicodedata.normalize("NFC", "Zoë.png"): "ok", unicodedata.normalize("NFD", "Zoë.png"): "ok",
    "細胞🩸.png": "ok",
         "Case.png": "ok", "case.png": "ok", "x" * 246 + ".png": "ok", "é" * 125 + ".png": "ok",
    "UPPER.PNG": "ok", "two.jpg.png": "ok", "no-suffix": None, ".hidden.png": None}


def two_classes(root, n=6):
    "A folder with n good images in each of two classes."
    for label, dark in (("normal", False), ("abnormal", True)):
        (root / label).mkdir(parents=True)
        for i in range(n): (root / label / f"{i:02}.png").write_bytes(picture(i + 100 * dark, dark))
    return root


def load(root, **changes): return load_dataset(make_settings(data=str(root), **changes))


def whys(dataset): return dict(zip(dataset.skipped["file_name"], dataset.skipped["why"]))


def test_odd_file_names_are_used_or_skipped_with_a_reason(tmp_path):
    root = two_classes(tmp_path / "set")
    for i, name in enumerate(NAMES): (root / "normal" / name).write_bytes(picture(1000 + i))
    d = load(root)
    used = set(d.usable["file_name"])
    for name, expected in NAMES.items():
        if expected == "ok": assert f"normal/{name}" in used and d.read(f"normal/{name}")
        if expected != "ok": assert f"normal/{name}" not in used
    reasons = whys(d)
    assert len(reasons) == sum(v == "skip" for v in NAMES.values()) and all("rename it" in why
        for why in reasons.values())
    assert all(name.isprintable() and ";=" not in name for name in reasons)


def test_links_pipes_sockets_devices_and_folders_with_an_images_name_neither_hang_nor_lead_out(tmp_path):
    root, outside = two_classes(tmp_path / "set"), tmp_path / "outside"
    outside.mkdir(); (outside / "secret.png").write_bytes(picture(9))
    links = {"loop.png": "loop.png", "a.png": "b.png", "b.png": "a.png", "up.png": "../..",
             "out.png": "../../outside/secret.png", "device.png": "/dev/zero", "tty.png": "/dev/tty",
             "gone.png": "nowhere.png",
             "proc.png": "/proc/self/environ", "chain1.png": "chain2.png", "chain2.png": "../../outside/secret.png"}
    for name, target in links.items(): (root / "normal" / name).symlink_to(target)
    (root / "normal" / "inside.png").symlink_to("00.png")
    os.mkfifo(root / "normal" / "pipe.png")
    (root / "normal" / "folder.png").mkdir(); (root / "normal" / "folder.png" / "in.png").write_bytes(picture(77))
    (root / "normal" / "circle").symlink_to("..", target_is_directory=True)
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd(); os.chdir(root / "normal")  # the address of a socket may have 107 bytes
        try: s.bind("socket.png")
        finally: os.chdir(here)
        start = time.monotonic()
        d = load(root)
    assert time.monotonic() - start < 20
    reasons = whys(d)
    assert {f"normal/{n}" for n in (*links, "pipe.png", "socket.png", "circle")} == set(reasons), reasons
    assert {"normal/inside.png", "normal/folder.png/in.png"} <= set(d.usable["file_name"])


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    root = two_classes(tmp_path / "set")
    (root / "normal" / "shut.png").write_bytes(picture(5)); (root / "normal" / "shut.png").chmod(0)
    if os.geteuid() == 0:  # whom no permission stops
        real = open
        monkeypatch.setattr("builtins.open", lambda f, *a,
                            **k: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
                            if str(f).endswith("shut.png") else real(f, *a, **k))
    assert whys(load(root)) == {"normal/shut.png": "permission denied"}


def test_a_sparse_file_of_a_terabyte_is_not_read(tmp_path):
    root = two_classes(tmp_path / "set")
    with open(root / "normal" / "sparse.png", "wb") as f:
        try: f.truncate(2**40)
        except OSError: f.truncate(2**33)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "more than an image" in whys(load(root))["normal/sparse.png"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_deep_folders_are_walked_without_recursion(tmp_path):
    root, deep = two_classes(tmp_path / "set"), tmp_path / "set" / "normal"
    for _ in range(300): deep = deep / "a"
    deep.mkdir(parents=True)
    (deep / "bottom.png").write_bytes(picture(3))
    assert sum(name.endswith("bottom.png") for name in load(root).usable["file_name"]) == 1


@pytest.mark.parametrize("format", ["jpeg", "tiff", "bmp", "webp", "gif", "apng", "mpo"])
def test_a_wrong_ending_changes_nothing(tmp_path, format):
    root = two_classes(tmp_path / "set")
    for ending in ("png", "jpg", "tif", "GIF"): (root / "normal" / f"wrong.{ending}").write_bytes(SEEDS[format])
    assert load(root).skipped.empty


# ---- metadata.csv

ROWS = "".join(f"{c}/{i:02}.png,{c},p{i}\n" for c in ("normal", "abnormal") for i in range(6))
GOOD = "file_name,label,patient_id\n" + ROWS


def listed(tmp_path, text):
    "The two classes with a metadata.csv of these bytes."
    root = two_classes(tmp_path / "set")
    (root / "metadata.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


REFUSED = {  # metadata.csv -> what the one sentence says
    "empty": ("", "no column"), "blank lines": ("\n\n\n", "no column"),
           "header only": ("file_name,label\n", "lists no file"),
           "no label column": ("file_name,class\na.png,x\n", "no column 'label'"),
    "no file column": ("name,label\na.png,x\n", "no column 'file_name'"),
           "column twice": ("file_name,label,label\na.png,x,y\n", "twice"),
           "one class": ("file_name,label\nnormal/00.png,normal\n", "one class"),
    "huge field": ("file_name,label\n" + "a" * 200_000 + ",x\n", "field larger"),
           "quote never closed": ("file_name,label\n\"normal/00.png,normal\n" + ROWS * 1500, "field larger"),
    "nothing there": ("file_name,label\nx.png,a\ny.png,b\n", "no usable image"),
           "all climb out": ("file_name,label\n../x.png,a\n../../y.png,b\n", "no usable image"),
           "binary": (bytes(range(256)) * 50, "no column"),
    "an image": (picture(), "no column"), "html": ("<html><script>alert(1)</script>", "no column"),
           "utf-16 without mark": (GOOD.encode("utf-16-le"), "no column"), "nul header": ("\0" * 5000, "no column"),
    "a header of megabytes": ("file_name,label" + ",x" * 200_000 + "\n", "field larger"),
           "one column many times": ("file_name,label" + ",x" * 50_000 + "\n", "twice")}


@pytest.mark.parametrize("case", REFUSED)
def test_a_metadata_file_of_no_use_is_refused_in_one_short_sentence(tmp_path, case):
    text, says = REFUSED[case]
    with pytest.raises(InputError, match=says) as caught: load(listed(tmp_path, text))
    assert len(str(caught.value)) < 900 and "\n" not in str(caught.value) and str(caught.value).isprintable()


READ = {  # the same table, as one or the other program writes it
    "byte-order mark": b"\xef\xbb\xbf" + GOOD.encode(), "utf-16": GOOD.encode("utf-16"),
        "windows lines": GOOD.replace("\n", "\r\n").encode(), "old mac lines": GOOD.replace("\n", "\r").encode(),
    "semicolons": GOOD.replace(",", ";").encode(), "tabs": GOOD.replace(",", "\t").encode(),
        "backslashes": GOOD.replace("/", "\\").encode(), "trailing commas": GOOD.replace("\n", ",,\n").encode(),
    "dots in paths": GOOD.replace("normal/", "./normal//").encode(),
        "quoted": "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in GOOD.splitlines()).encode(),
        "no last line end": GOOD.rstrip().encode(),
    "blank lines between": GOOD.replace("\n", "\n\n").encode(),
        "spaces in the header": GOOD.replace("file_name,label", " file_name , label ").encode()}


@pytest.mark.parametrize("case", READ)
def test_the_same_table_is_read_whoever_wrote_it(tmp_path, case):
    d = load(listed(tmp_path, READ[case].replace(b"ab./normal//", b"./abnormal//")))
    assert d.counts == {"abnormal": 6, "normal": 6} and d.skipped.empty and d.grouped


def test_rows_that_lead_elsewhere_are_skipped_with_the_reason(tmp_path):
    bad = {"/etc/passwd": "absolute", "C:\\\\Windows\\\\x.png": "absolute", "../secret.png": "climbs",
           "normal/../../secret.png": "climbs", "~/x.png": "no such", "file:///etc/passwd": "no such",
           "https://example.org/x.png": "no such",
           "//server/share/x.png": "absolute", "nul\0.png": "null", "normal": "not a regular",
           "normal/00.png/x": "not a directory", "a" * 3000 + ".png": "too long", "..": "climbs", ".": "not a regular",
           "%2e%2e/x.png": "no such"}
    root = listed(tmp_path, GOOD + "".join(f"{name},normal,q\n" for name in bad))
    (tmp_path / "secret.png").write_bytes(picture(1))
    skipped = load(root).skipped
    assert len(skipped) == len(bad)
    for says in set(bad.values()):
        assert skipped["why"].str.contains(says).sum() == list(bad.values()).count(says), says


def test_formulas_in_names_labels_and_patients_are_text_and_lead_back_to_the_same_file(tmp_path):
    root = listed(tmp_path, "")
    for name in ("=cmd.png", "+a.png", "-b.png", "@c.png"): (root / name).write_bytes(picture(len(name) + ord(name[0])))
    rows = (GOOD
            + '=cmd.png,+ve,"=HYPERLINK(""x"")"\n+a.png,+ve,-12-B\n-b.png,+ve,@x\n@c.png,+ve,-7\n'
            + 'normal/00.png,normal,"a\n=b"\n')
    (root / "metadata.csv").write_text(rows)
    d = load(root)
    assert {"./=cmd.png", "./+a.png", "./-b.png",
            "./@c.png"} <= set(d.usable["file_name"]) and "'+ve" in d.classes and d.read("./=cmd.png") == (root
                / "=cmd.png").read_bytes()
    for column in ("file_name", "label", "group", "why"):
        for value in d.table[column]: assert not value or value[0] not in "=+-@\t\r" or value == "-7", value
    d.table[["file_name", "label", "group"]].rename(columns={"group": "patient_id"}).to_csv(root / "metadata.csv",
        index=False)
    again = load(root)
    assert set(again.usable["file_name"]) == set(d.usable["file_name"])


def test_a_positive_class_is_named_as_the_user_wrote_it(tmp_path):
    root = listed(tmp_path, GOOD.replace(",abnormal,", ",+ve,").replace(",normal,", ",-ve,"))
    d = load(root, positive="+ve")
    assert d.positive == "'+ve" and d.y.sum() == 6 and d.classes == ["'+ve", "'-ve"]


def test_a_metadata_file_that_is_a_link_out_of_the_folder_is_refused(tmp_path):
    root = two_classes(tmp_path / "set")
    (tmp_path / "private.csv").write_text(GOOD)
    (root / "metadata.csv").symlink_to(tmp_path / "private.csv")
    with pytest.raises(InputError, match="leaves the folder"): load(root)


def test_tens_of_thousands_of_rows_about_missing_files_take_seconds_and_bounded_memory(tmp_path):
    n = 40_000  # the time is in a straight line (tests/test_datasets.py)
    root = listed(tmp_path, GOOD + "".join(f"gone/{i}.png,normal,p{i}\n" for i in range(n)))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    d = load(root)
    assert len(d.skipped) == n and len(d.usable) == 12
    assert time.process_time() - start < 40 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


def test_a_header_of_two_thousand_columns_is_read(tmp_path):
    root = listed(tmp_path, GOOD.replace("patient_id\n",
                                         "patient_id," + ",".join(f"c{i}" for i in range(2_000)) + "\n"))
    start = time.process_time()
    assert load(root).counts == {"abnormal": 6, "normal": 6} and time.process_time() - start < 20


def test_mixed_encodings_duplicates_and_torn_labels_stay_apart(tmp_path):
    rows = GOOD.encode() + "normal/Zoë.png,normal,Müller\n".encode(
        "latin-1") + "normal/ü.png,normal,x\n".encode() + b"normal/00.png,normal,p0\nabnormal/01.png,normal,p1\n"
    root = listed(tmp_path, rows)
    for i, name in enumerate(("Zoë.png", "ü.png")): (root / "normal" / name).write_bytes(picture(50 + i))
    d = load(root)
    assert {"normal/Zoë.png", "normal/ü.png"} <= set(d.usable["file_name"]) and "Müller" in set(d.groups)
    assert sorted(d.skipped["why"].str.split(":").str[0]) == ["listed before", "listed under several labels",
                                                              "listed under several labels"]


def test_reading_changes_nothing_in_the_folder(tmp_path):
    root = listed(tmp_path, GOOD)
    def seen():
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size, stat.S_IMODE(p.stat().st_mode))
                for p in tmp_path.rglob("*")}
    before = seen()
    table = load(root).table
    assert seen() == before and isinstance(table, pd.DataFrame)
