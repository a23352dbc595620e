"""A set that comes as one file: read as what it is, or refused in one sentence; nothing outside the cache is
touched.
"""

import csv
import io
import json
import os
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from leuknb.core import InputError
from leuknb.data import archives, npz, parquet, unpacking
from leuknb.data.archives import archive_folder
from leuknb.data.hub import hub_folder, unpacked
from leuknb.data.npz import npz_folder
from leuknb.data.parquet import parquet_folder
from leuknb.data.unpacking import content_key, left_out


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    "A cache of its own, and a folder around it that holds nothing else."
    monkeypatch.setenv("LEUKNB_HOME", str(tmp_path / "home" / "cache"))
    return tmp_path / "home" / "cache"


def picture(i=0, kind="PNG", size=(8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (i % 256, i // 256, 7)).save(file, kind)
    return file.getvalue()


def zipped(path: Path, files: dict, compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as z:
        for name, data in files.items(): z.writestr(name, data)
    return path


def taped(path: Path, members, mode="w:gz", form=tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as t:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if data is not None: info.size = len(data)
            t.addfile(info, None if data is None else io.BytesIO(data))
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
                  and p.name != ".skipped.json")


def table(folder: Path) -> list[dict]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as f: return list(csv.DictReader(f))


def why(folder: Path) -> dict:
    return {row["file_name"]: row["why"] for row in left_out(folder)}


def refused(function, *arguments, **named) -> str:
    "The one sentence with which something is refused; nothing is left in the cache."
    with pytest.raises(InputError) as e: function(*arguments, **named)
    text = str(e.value)
    assert "\n" not in text and "Traceback" not in text and len(text) < 900
    sets = unpacking.home() / "sets"
    assert not sets.exists() or not list(sets.iterdir())
    return text


CELLS = {"set/blast/1.png": picture(1), "set/blast/2.PNG": picture(2), "set/normal/3.tif": picture(3, "TIFF"),
         "set/labels.csv": b"file_name,label\n", "set/readme.md": b"hello"}
READ = ["set/blast/1.png", "set/blast/2.PNG", "set/labels.csv", "set/normal/3.tif"]


# archives

@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2"])
def test_an_archive_becomes_its_images_and_tables_and_nothing_beside_it_changes(tmp_path, cache, ending):
    path = tmp_path / f"cells{ending}"
    if ending == ".zip": zipped(path, CELLS)
    else: taped(path, CELLS.items(), {".tar": "w:", ".tar.bz2": "w:bz2"}.get(ending, "w:gz"))
    folder = archive_folder(path)
    assert names(folder) == READ and folder.parent == cache / "sets" and not left_out(folder)
    assert (folder / "set/blast/1.png").read_bytes() == picture(1)
    assert sorted(os.listdir(tmp_path)) == [path.name, "home"]


def test_a_second_use_does_nothing_and_a_copy_is_the_same_set(tmp_path, monkeypatch):
    folder = archive_folder(zipped(tmp_path / "a.zip", CELLS))
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes())
    monkeypatch.setattr(archives, "_unpack", lambda *_: pytest.fail("unpacked again"))
    assert archive_folder(tmp_path / "b.zip") == archive_folder(str(tmp_path / "a.zip")) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_a_changed_file_is_another_set_however_large_it_is(tmp_path, monkeypatch):
    for whole in (2**28, 10):
        monkeypatch.setattr(unpacking, "WHOLE", whole)
        path = tmp_path / f"{whole}.zip"
        path.write_bytes(bytes(3 * 2**20))
        key = content_key(path)
        assert key == content_key(path)
        path.write_bytes(bytes(3 * 2**20 - 1) + b"1")
        assert key != content_key(path)


def test_what_is_interrupted_leaves_no_folder_and_the_next_use_begins_anew(tmp_path, cache, monkeypatch):
    path = zipped(tmp_path / "a.zip", CELLS)
    with monkeypatch.context() as m:
        m.setattr(archives.shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt): archive_folder(path)
    assert not list((cache / "sets").iterdir())
    assert names(archive_folder(path)) == READ


CLIMBING = ["../1.png", "a/../../2.png", "/tmp/leuknb-3.png", "C:\\4.png", "..\\5.png", "a\\..\\..\\6.png", "//7.png"]


@pytest.mark.parametrize("pack", ["zip", "tar"])
def test_names_that_climb_out_or_are_absolute_are_left_out_and_named(tmp_path, pack):
    files = {**CELLS, **dict.fromkeys(CLIMBING, picture(9))}
    path = zipped(tmp_path / "a.zip", files) if pack == "zip" else taped(tmp_path / "a.tar", files.items(), "w:")
    before = sorted(map(str, tmp_path.rglob("*")))
    folder = archive_folder(path)
    assert names(folder) == READ and sorted(why(folder)) == sorted(CLIMBING)
    assert all("climbs out" in w or "absolute" in w for w in why(folder).values())
    inside = {str(p) for p in (tmp_path / "home").rglob("*")} | {str(tmp_path / "home")}
    assert sorted(set(map(str, tmp_path.rglob("*"))) - inside) == before and not Path("/tmp/leuknb-3.png").exists()


def test_links_and_devices_of_a_tar_are_left_out_and_what_stands_behind_a_link_is_not_written_through_it(tmp_path):
    (tmp_path / "outside").mkdir()
    special = []
    for name, kind, target in (("evil", tarfile.SYMTYPE, str(tmp_path / "outside")),
                               ("hard.png", tarfile.LNKTYPE, "/etc/passwd"),
                               ("fifo.png", tarfile.FIFOTYPE, ""), ("disk.png", tarfile.BLKTYPE, ""),
                               ("tty.png", tarfile.CHRTYPE, "")):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        special.append((info, None))
    folder = archive_folder(taped(tmp_path / "a.tar.gz", [*special, ("evil/x.png", picture(5)), *CELLS.items()]))
    assert names(folder) == ["evil/x.png", *READ] and not list((tmp_path / "outside").iterdir())
    assert not any(p.is_symlink() for p in folder.rglob("*"))
    assert why(folder) == {"evil": "a link", "hard.png": "a link", "fifo.png": "not a regular file",
                           "disk.png": "not a regular file", "tty.png": "not a regular file"}


def test_links_and_devices_of_a_zip_are_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        for name, mode in (("link.png", 0o120777), ("pipe.png", 0o010644), ("good/1.png", 0o100644), ("good/2.png", 0)):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            z.writestr(info, b"/etc/passwd" if name == "link.png" else picture())
    folder = archive_folder(tmp_path / "a.zip")
    assert names(folder) == ["good/1.png", "good/2.png"]
    assert why(folder) == {"link.png": "a link", "pipe.png": "not a regular file"}


def test_hidden_files_are_passed_over_and_archives_within_are_named(tmp_path):
    folder = archive_folder(zipped(tmp_path / "a.zip",
                                   {**CELLS, "__MACOSX/set/._1.png": b"x", ".hidden/1.png": picture(),
                                                        "set/.DS_Store": b"x", "set/more.zip": b"PK",
                                    "./set/blast/4.png": picture(4)}))
    assert names(folder) == sorted([*READ, "set/blast/4.png"])
    assert why(folder) == {"set/more.zip": "an archive within the archive: unpack it yourself"}


def test_a_name_that_stands_twice_is_taken_once_and_named_and_names_in_other_case_are_two(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z, pytest.warns(UserWarning):
        for name, i in (("a/1.png", 1), ("a/1.png", 2), ("a/b.png", 3), ("a/b.png/4.png", 4), ("A/1.png", 5)):
            z.writestr(name, picture(i))
    folder = archive_folder(tmp_path / "a.zip")
    assert (folder / "a/1.png").read_bytes() == picture(1) and (folder / "a/b.png").read_bytes() == picture(3)
    assert why(folder) == dict.fromkeys(["a/1.png", "a/b.png/4.png"], "the name is taken by one before it")
    if not (tmp_path / "HOME").exists():  # the disk tells cases apart
        assert names(folder) == ["A/1.png", "a/1.png", "a/b.png"]


def test_names_that_are_not_utf8_are_read_as_a_table_reads_them(tmp_path):
    folder = archive_folder(taped(tmp_path / "a.tar",
                                  [("größe/1.png".encode("latin-1").decode("utf-8", "surrogateescape"), picture())],
                                  "w:", tarfile.GNU_FORMAT))
    assert names(folder) == ["größe/1.png"]
    info = zipfile.ZipInfo("gro__e/1.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z: z.writestr(info, picture())
    raw = (tmp_path / "a.zip").read_bytes()  # UTF-8 without the mark, as Finder writes it
    (tmp_path / "a.zip").write_bytes(raw.replace(b"gro__e/1.png", "größe/.png".encode()))
    assert len("größe/.png".encode()) == len("gro__e/1.png")
    (tmp_path / "b.zip").write_bytes(raw.replace(b"gro__e/1.png", "größ/1.png".encode()))
    assert names(archive_folder(tmp_path / "b.zip")) == ["größ/1.png"]


def test_names_of_control_characters_or_of_great_length_do_no_harm(tmp_path):
    folder = archive_folder(taped(tmp_path / "a.tar.gz",
                                  [("a/" + "x" * 5000 + ".png", picture()), ("a/\x1b[2J.exe", b""), *CELLS.items()]))
    assert names(folder) == READ
    assert list(why(folder).values()) == ["file name too long"] and all(len(n) <= 120 and n.isprintable()
        for n in why(folder))


def test_bombs_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    zeros = bytes(unpacking.HARMLESS + 2**20)
    assert "bomb.zip unpacks to more than" in refused(archive_folder, zipped(tmp_path / "bomb.zip", {"a/1.png": zeros}))
    assert "bomb.tgz unpacks to more than" in refused(archive_folder,
                                                      taped(tmp_path / "bomb.tgz", [("a/1.png", zeros)]))
    assert "bomb.tgz unpacks to more than" in refused(archive_folder,
                                                      taped(tmp_path / "bomb.tgz", [("a/1.other", zeros)]))
    monkeypatch.setattr(unpacking, "LARGEST", 100)
    assert "unpacks to more than" in refused(archive_folder, zipped(tmp_path / "large.zip", CELLS, zipfile.ZIP_STORED))


def test_a_zip_that_claims_less_than_it_holds_or_whose_members_overlap_is_refused(tmp_path):
    raw = zipped(tmp_path / "a.zip", {"a/1.png": bytes(5000)}).read_bytes()
    (tmp_path / "less.zip").write_bytes(raw.replace(struct.pack("<L", 5000), struct.pack("<L", 50)))
    assert "less.zip cannot be read" in refused(archive_folder, tmp_path / "less.zip")
    (tmp_path / "more.zip").write_bytes(raw.replace(struct.pack("<L", 5000), struct.pack("<L", 2**32 - 2)))
    assert "more.zip unpacks to more than" in refused(archive_folder, tmp_path / "more.zip")
    two = zipped(tmp_path / "two.zip", {"a/1.png": picture(1), "a/2.png": picture(2)}).read_bytes()
    with zipfile.ZipFile(tmp_path / "two.zip") as z: second = z.infolist()[1].header_offset
    at = two.rindex(b"PK\1\2") + 42
    assert struct.unpack("<L", two[at:at + 4])[0] == second
    (tmp_path / "two.zip").write_bytes(two[:at] + struct.pack("<L", 0) + two[at + 4:])
    assert "two.zip cannot be read" in refused(archive_folder, tmp_path / "two.zip")


def test_more_members_than_a_set_can_have_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 3)
    assert "a.zip holds more than" in refused(archive_folder, zipped(tmp_path / "a.zip", CELLS))
    assert "a.tar holds more than" in refused(archive_folder, taped(tmp_path / "a.tar", CELLS.items(), "w:"))
    with open(tmp_path / "list.zip", "wb") as f:  # a list of members that would become ten million objects
        entries = (b"PK\1\2" + bytes(42)) * 30_000
        f.write(entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 4, 4, len(entries), 0, 0))
    assert "holds more than" in refused(archive_folder, tmp_path / "list.zip")


def test_a_locked_zip_is_refused_with_the_way_out(tmp_path):
    raw = zipped(tmp_path / "a.zip", CELLS).read_bytes()
    at = raw.index(b"PK\1\2") + 8
    (tmp_path / "locked.zip").write_bytes(raw[:at] + b"\1" + raw[at + 1:])
    text = refused(archive_folder, tmp_path / "locked.zip")
    assert "locked with a password" in text and "unpack it yourself and give the folder" in text


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.bz2"])
def test_an_archive_that_is_cut_off_is_never_a_smaller_set(tmp_path, ending, share):
    files = {f"a/{i}.png": os.urandom(700 + i) for i in range(40)}
    path = tmp_path / f"a{ending}"
    raw = (zipped(path, files) if ending == ".zip" else taped(path, files.items(),
                                                              {".tar": "w:", ".tar.bz2": "w:bz2"}.get(ending,
                                                                  "w:gz"))).read_bytes()
    end = len(raw.rstrip(b"\0")) if ending == ".tar" else len(raw)  # a tape ends with rows of zeros
    path.write_bytes(raw[:int(share * end)])
    text = refused(archive_folder, path)
    assert text.startswith(f"a{ending} ") and "get it anew" in text


def test_a_tape_cut_between_two_members_is_refused_too(tmp_path):
    path = taped(tmp_path / "a.tar", [(f"a/{i}.png", bytes(512)) for i in range(4)], "w:")
    path.write_bytes(path.read_bytes()[:2 * 1024])
    assert "no end mark" in refused(archive_folder, path)


def test_a_damaged_byte_is_noticed(tmp_path):
    files = {f"a/{i}.png": os.urandom(3000) for i in range(5)}
    for path in (zipped(tmp_path / "a.zip", files), taped(tmp_path / "a.tar.gz", files.items())):
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 255
        path.write_bytes(raw)
        assert "cannot be read" in refused(archive_folder, path)


def header(name=b"a.png", size=b"00000000000\0", kind=b"0") -> bytes:
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8
                      + kind + bytes(100) + b"ustar\x0000" + bytes(247))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", ["negative", "huge name", "huge notes", "chain", "endless"])
def test_a_tape_that_would_run_for_ever_or_fill_the_memory_is_refused_at_once(tmp_path, kind):
    import gzip
    import tracemalloc

    negative = b"\xff" * 8 + struct.pack(">l", -512)
    many = b"%011o\0" % 2**30
    tape = {"negative": header() + header(b"b.png", negative), "huge name": header(kind=b"L", size=many) + bytes(2**25),
            "huge notes": header(kind=b"x", size=many) + b"9" * 2**25,
            "endless": header(size=b"77777777777\0") + bytes(1000),
            "chain": (header(kind=b"L", size=b"00000000001\0") + b"x".ljust(512, b"\0")) * 3000}[kind]
    with gzip.open(tmp_path / "a.tar.gz", "wb") as f: f.write(tape)
    words = {"negative": "a member that lies before", "huge name": "a header of more", "huge notes": "a header of more"}
    tracemalloc.start()
    try: assert f"cannot be read ({words.get(kind, '')}" in refused(archive_folder, tmp_path / "a.tar.gz")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**27


def test_sparse_members_are_left_out(tmp_path):
    info = tarfile.TarInfo("sparse.png")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(10**15)}
    folder = archive_folder(taped(tmp_path / "a.tar", [(info, b""), *CELLS.items()], "w:"))
    assert names(folder) == READ and why(folder) == {"sparse.png": "a sparse file"}


def test_an_archive_without_an_image_says_what_it_holds(tmp_path):
    text = refused(archive_folder, zipped(tmp_path / "a.zip",
                                          {"a/1.mat": b"x", "a/2.mat": b"x", "in.zip": b"PK", "x.csv": b"a"}))
    assert "a.zip holds no image (2 .mat, " in text and "in.zip: an archive within" in text
    assert "holds no image (nothing" in refused(archive_folder, taped(tmp_path / "empty.tar", [], "w:"))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.parquet", "a.npz"])
def test_a_file_of_another_kind_a_folder_or_none_is_one_sentence(tmp_path, name):
    function = parquet_folder if name.endswith("parquet") else npz_folder if name.endswith("npz") else archive_folder
    for content in (b"", b"hello", b"\x1f\x8b" + bytes(50), b"BZh9" + bytes(50), b"\xfd7zXZ\0", b"PK\3\4" + bytes(100),
                    os.urandom(5000)):
        (tmp_path / name).write_bytes(content)
        assert f"{name} cannot be read" in refused(function, tmp_path / name)
    (tmp_path / name).unlink()
    assert "no such file" in refused(function, tmp_path / name)
    os.mkfifo(tmp_path / name)
    assert "is no file" in refused(function, tmp_path / name)


def test_a_full_or_closed_disk_is_said_with_the_way_out(tmp_path, monkeypatch, cache):
    import errno

    def full(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    assert "set LEUKNB_HOME" in refused(archive_folder, zipped(tmp_path / "a.zip", CELLS))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_are_changed_a_file_is_read_or_refused(tmp_path, data):
    kind = data.draw(st.sampled_from(["zip", "tar", "tar.gz", "parquet", "npz"]))
    path = tmp_path / f"x.{kind}"
    if kind == "zip": zipped(path, CELLS)
    elif kind == "parquet": pq.write_table(hub_table(), path)
    elif kind == "npz": np.savez(path, images=np.zeros((3, 4, 4), np.uint8), labels=[0, 1, 0])
    else: taped(path, CELLS.items(), "w:" if kind == "tar" else "w:gz")
    raw = bytearray(path.read_bytes())
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        raw[at] = value
    path.write_bytes(raw[:data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try: folder = unpacked(path)
    except InputError as e: assert "\n" not in str(e)
    else: assert names(folder) and all(not p.is_symlink() for p in folder.rglob("*"))


# Parquet

CLASSES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["normal", "abnormal"]},
           "patient_id": {"dtype": "string", "_type": "Value"}}


def hub_table(n=6, features=CLASSES, **columns) -> pa.Table:
    base = {"image": [{"bytes": picture(i, "JPEG" if i % 2 else "PNG"), "path": f"P{i // 2}_{i}.jpg"}
                      for i in range(n)],
            "label": [i % 2 for i in range(n)], "patient_id": [f"P{i // 2}" for i in range(n)],
            "age": [40.0 + i for i in range(n)]}
    made = pa.table({k: v for k, v in {**base, **columns}.items() if v is not None})
    note = features if isinstance(features, bytes) else json.dumps({"info": {"features": features}})
    return made if features is None else made.replace_schema_metadata({"huggingface": note})


def parqueted(path: Path, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(hub_table(**changes), path)
    return path


def test_parquet_of_the_hub_becomes_images_and_a_table_with_the_words_of_the_schema(tmp_path):
    folder = parquet_folder(parqueted(tmp_path / "train.parquet"))
    assert table(folder)[:2] == [{"file_name": "images/P0_0.png", "label": "normal", "patient_id": "P0", "age": "40"},
                                 {"file_name": "images/P0_1.jpg", "label": "abnormal", "patient_id": "P0", "age": "41"}]
    assert all((folder / row["file_name"]).read_bytes() == picture(i, "JPEG" if i % 2 else "PNG") for i,
               row in enumerate(table(folder)))
    assert parquet_folder(str(tmp_path / "train.parquet")) == folder and not left_out(folder)


def test_shards_are_one_set_with_the_split_of_their_names(tmp_path):
    shards = [parqueted(tmp_path / "data" / f"{name}.parquet")
              for name in ("train-00000-of-00002", "train-00001-of-00002-3f9ab2", "test-00000-of-00001")]
    folder = parquet_folder(shards)
    rows = table(folder)
    assert [r["split"] for r in rows] == ["train"] * 12 + ["test"] * 6 and list(rows[0])[:3] == ["file_name", "label",
        "split"]
    assert len({r["file_name"] for r in rows}) == 18 and all((folder / r["file_name"]).is_file() for r in rows)
    assert [r["split"] for r in table(parquet_folder(tmp_path / "data"))].count("train") == 12
    assert "split" not in table(parquet_folder(shards[:2]))[0]
    converted = [parqueted(tmp_path / "default" / part / "0000.parquet") for part in ("train", "test")]
    assert {r["split"] for r in table(parquet_folder(converted))} == {"train", "test"}


def test_a_shard_named_to_climb_out_stays_inside(tmp_path):
    shards = [parqueted(tmp_path / f"{name}-00000-of-00001.parquet") for name in ("...", "a b")]
    folder = parquet_folder(shards)
    assert {Path(r["file_name"]).parts[0] for r in table(folder)} == {"___", "a_b"}


def test_labels_as_text_as_plain_numbers_and_missing_ones(tmp_path):
    for k, (label, found) in enumerate(((["a", "b", None], ["a", "b", ""]), ([3, 1, 2], ["3", "1", "2"]),
                                        ([1.0, float("nan"), 2.5], ["1", "", "2.5"]),
                                        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
                                        ([True, False, None], ["True", "False", ""]))):
        path = parqueted(tmp_path / f"{k}.parquet", n=3, features=None, label=label)
        assert [r["label"] for r in table(parquet_folder(path))] == found
    path = parqueted(tmp_path / "none.parquet", n=3, label=[0, -1, 1])
    assert [r["label"] for r in table(parquet_folder(path))] == ["normal", "", "abnormal"]
    assert "class 7 where the schema names 2" in refused_beside(parquet_folder,
                                                                parqueted(tmp_path / "out.parquet", n=3,
                                                                    label=[0, 7, 1]))


def refused_beside(function, *arguments, **named) -> str:
    with pytest.raises(InputError) as e: function(*arguments, **named)
    return str(e.value)


def test_plain_bytes_without_names_are_numbered_and_get_the_ending_of_their_content(tmp_path):
    path = parqueted(tmp_path / "a.parquet", n=4, features=None,
                     image=[picture(0, "WEBP"), picture(1, "BMP"), picture(2, "TIFF"), b"%PDF-1.7"])
    assert [r["file_name"] for r in table(parquet_folder(path))] == [f"images/{i:07}.{e}" for i,
        e in enumerate(("webp", "bmp", "tif", "bin"), 1)]


def test_names_inside_parquet_cannot_lead_out_hide_or_overwrite(tmp_path):
    bad = ["../../1.png", "/etc/cron.d/2.png", ".hidden/3.png", "a\0b.png", "x\n.png", "..", ".", "", "a/b.png",
           "a/b.png", "x" * 400 + ".png", "C:\\w\\4.png", "metadata.csv"]
    path = parqueted(tmp_path / "a.parquet", n=len(bad),
                     image=[{"bytes": picture(i), "path": p} for i, p in enumerate(bad)])
    folder = parquet_folder(path)
    rows = table(folder)
    assert len({r["file_name"] for r in rows}) == len(bad) and names(folder) == sorted([r["file_name"]
        for r in rows] + ["metadata.csv"])
    assert all((folder / r["file_name"]).read_bytes() == picture(i) for i, r in enumerate(rows))
    assert rows[1]["file_name"] == "images/2.png" and rows[8]["file_name"] == "images/a/b.png" and rows[9][
        "file_name"] == "images/b.png"


def test_which_column_is_asked_for_by_name_and_the_answer_works(tmp_path):
    path = parqueted(tmp_path / "a.parquet", features=None, label=None, stage=[1] * 6, image_b=[picture()] * 6)
    text = refused(parquet_folder, path)
    assert "add --set file=image or --set file=image_b" in text
    text = refused(parquet_folder, path, image="image")
    assert "add --set label=patient_id or --set label=age or --set label=stage" in text
    assert table(parquet_folder(path, image="image", label="stage"))[0]["label"] == "1"
    assert table(parquet_folder(path, "image_b", "patient_id"))[0]["label"] == "P0"
    assert "did you mean 'stage'" in refused_beside(parquet_folder, path, image="image", label="stag")
    lone = parqueted(tmp_path / "b.parquet", features=None, label=None, age=None)
    assert "--set label=patient_id" in refused_beside(parquet_folder, lone)


def test_the_columns_of_the_hub_settle_it_and_masks_are_asked_about(tmp_path):
    both = {"image": {"_type": "Image"}, "mask": {"_type": "Image"},
            "stage": {"_type": "ClassLabel", "names": ["early", "late"]}}
    path = parqueted(tmp_path / "a.parquet", features=both, label=None, stage=[0, 1] * 3, mask=[picture()] * 6)
    assert "--set file=image or --set file=mask" in refused(parquet_folder, path)
    folder = parquet_folder(path, image="image")
    assert {r["label"] for r in table(folder)} == {"early",
                                                   "late"} and why(folder) == {
                                                       "column mask": "no single number or text in each row"}


def test_parquet_without_images_or_classes_says_what_it_has(tmp_path):
    text = refused(parquet_folder, parqueted(tmp_path / "a.parquet", image=None))
    assert text == "a.parquet has no column with images: it has label, patient_id, age"
    assert "has no column with classes" in refused(parquet_folder,
                                                   parqueted(tmp_path / "c.parquet", label=None, patient_id=None,
                                                             age=None))
    (tmp_path / "empty").mkdir()
    assert "holds no Parquet file" in refused(parquet_folder, tmp_path / "empty")


def test_rows_without_bytes_are_named_and_a_set_of_them_is_refused(tmp_path):
    some = [{"bytes": picture(i) if i else None, "path": f"{i}.png"} for i in range(6)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    folder = parquet_folder(parqueted(tmp_path / "a.parquet", image=some))
    assert len(table(folder)) == 5 and why(folder) == {"0.png": "the row holds no image bytes"}
    none = pa.array([{"bytes": None, "path": "x.png"}, None] * 3, kind)
    assert "holds no image bytes" in refused_beside(parquet_folder, parqueted(tmp_path / "b.parquet", image=none))
    assert "holds no image bytes" in refused_beside(parquet_folder,
                                                    parqueted(tmp_path / "c.parquet", n=0, image=pa.array([], kind),
                                                              label=pa.array([], pa.int64())))


@pytest.mark.parametrize("note", [b"{", b"\xff\xfe", b"[]", b"null", b'{"info": 3}', b'{"info": {"features": []}}',
                                  b"[" * 100_000, b'{"info": {"features": {"label": 3}}}'])
def test_notes_of_the_schema_that_are_none_leave_numbers_and_say_so(tmp_path, note):
    folder = parquet_folder(parqueted(tmp_path / "a.parquet", features=note))
    assert {r["label"] for r in table(folder)} == {"0", "1"}
    assert bool(left_out(folder)) == (b'"label": 3' not in note)


@pytest.mark.parametrize("words", [None, 3, "ab", ["a"] * 2, ["a", 3], ["", "b"], {"0": "a"}, [["a"], ["b"]]])
def test_class_names_that_are_none_leave_numbers_and_say_so(tmp_path, words):
    folder = parquet_folder(parqueted(tmp_path / "a.parquet",
                                      features={"label": {"_type": "ClassLabel", "names": words}}))
    assert {r["label"] for r in table(folder)} == {"0", "1"} and "stay numbers" in why(folder)["a.parquet"]


def test_shards_of_different_sets_are_not_joined(tmp_path):
    a, b = parqueted(tmp_path / "a.parquet"), parqueted(tmp_path / "b.parquet", age=None)
    c = parqueted(tmp_path / "c.parquet", features={**CLASSES,
                                                    "label": {"_type": "ClassLabel", "names": ["abnormal", "normal"]}})
    for other in (b, c):
        assert f"a.parquet and {other.name} have different columns" in refused(parquet_folder, [a, other])


def test_other_columns_are_kept_as_text_renamed_where_they_would_clash_and_cut_where_they_are_endless(tmp_path):
    path = parqueted(tmp_path / "a.parquet", n=2, file_name=["x", "y"], width=[1, 2], boxes=[[1, 2], [3]],
                     note=["a" * 300_000, "line\nbreak"],
                     when=pa.array([0, 86_400], pa.timestamp("s")), __index_level_0__=[5, 6])
    folder = parquet_folder(path)
    row = table(folder)[0]
    assert list(row) == ["file_name", "label", "patient_id", "age", "metadata_file_name", "metadata_width", "note",
                         "when"]
    assert len(row["note"]) == 1000 and row["when"] == "1970-01-01 00:00:00" and table(folder)[1][
        "note"] == "line\nbreak"
    assert why(folder) == {"column boxes": "no single number or text in each row",
                           "column __index_level_0__": "no single number or text in each row",
                           "column note": "texts are cut at 1,000 characters"}


def test_a_value_repeated_a_thousand_times_over_is_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "HARMLESS", 10**6)
    path = parqueted(tmp_path / "a.parquet", n=3000, features=None, image=[picture() + bytes(10**5)] * 3000)
    assert path.stat().st_size < 10**6
    assert "a.parquet unpacks to more than" in refused(parquet_folder, path)


def test_large_rows_are_read_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_AT_ONCE", 10**6)
    sizes = []
    whole = pq.ParquetFile.iter_batches

    def seen(self, *a, **k):
        for batch in whole(self, *a, **k): sizes.append(batch.num_rows); yield batch
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", seen)
    path = parqueted(tmp_path / "a.parquet", n=20, image=[{"bytes": picture() + os.urandom(10**5), "path": None}
                                                          for _ in range(20)])
    assert len(table(parquet_folder(path))) == 20 and max(sizes) == 1
    sizes.clear()
    parquet_folder(parqueted(tmp_path / "b.parquet", n=20))
    assert sizes == [20]


# npz

def saved(path: Path, compressed=False, **arrays) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def pixels(n=6, *shape) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *(shape or (8, 6, 3))), np.uint8)


@pytest.mark.parametrize("compressed", [False, True])
def test_medmnist_becomes_png_files_with_class_and_split(tmp_path, compressed):
    x, y = {p: pixels(n) for p, n in (("train", 6), ("val", 2), ("test", 3))}, {"train": [[0], [1]] * 3,
        "val": [[0], [1]], "test": [[7], [1], [0]]}
    folder = npz_folder(saved(tmp_path / "set.npz", compressed, **{f"{k}_images": v for k, v in x.items()},
                              **{f"{k}_labels": np.array(v, "uint8") for k, v in y.items()}))
    rows = table(folder)
    assert [r["split"] for r in rows] == ["train"] * 6 + ["val"] * 2 + ["test"] * 3 and [r["label"]
        for r in rows] == ["0", "1"] * 4 + ["7", "1", "0"]
    for row in rows:
        part, i = row["file_name"].removesuffix(".png").split("/")
        np.testing.assert_array_equal(np.asarray(Image.open(folder / row["file_name"])), x[part][int(i)])


@pytest.mark.parametrize("images,labels", [("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target"),
                                           ("x_train", "y_train"), ("train_x", "train_y")])
def test_a_pair_of_arrays_with_plain_names_is_a_set_without_split(tmp_path, images, labels):
    folder = npz_folder(saved(tmp_path / "a.npz", **{images: pixels(), labels: list("aabbcc"), "names": [1, 2]}))
    assert [r["label"] for r in table(folder)] == list("aabbcc") and list(table(folder)[0]) == ["file_name", "label"]
    assert why(folder) == {"names": "an array whose name says neither images nor labels"}


@pytest.mark.parametrize("shape,size,mode", [((8, 6), (6, 8), "L"), ((8, 6, 1), (6, 8), "L"),
                                             ((8, 6, 3), (6, 8), "RGB"), ((8, 6, 4), (6, 8), "RGBA"),
                                             ((3, 8, 6), (6, 8), "RGB"), ((1, 8, 6), (6, 8), "L")])
def test_grey_colour_and_channels_first(tmp_path, shape, size, mode):
    x = pixels(2, *shape)
    folder = npz_folder(saved(tmp_path / "a.npz", images=x, labels=[0, 1]))
    image = Image.open(folder / "images/00001.png")
    assert (image.size, image.mode) == (size, mode)
    np.testing.assert_array_equal(np.asarray(image).ravel(),
                                  (np.moveaxis(x[1], 0, -1) if shape[0] in (1, 3) else x[1]).ravel())


@pytest.mark.parametrize("arrays,words", [
    ({"images": pixels(2), "labels": [[0, 1], [1, 0]]}, "several labels an image"),
    ({"images": pixels(2).astype("float32"), "labels": [0, 1]}, "images are uint8"),
    ({"images": pixels(2, 8, 6, 5), "labels": [0, 1]}, "images are uint8"),
    ({"images": pixels(2, 8, 8, 8, 3), "labels": [0, 1]}, "images are uint8"),
    ({"images": pixels(6, 4)[:, 0], "labels": [0] * 6}, "images are uint8"),
    ({"images": np.uint8(7), "labels": [0]}, "1 labels, images has 0 images"),
    ({"images": pixels(2), "labels": [0, 1, 2]}, "3 labels, images has 2 images"),
    ({"images": pixels(2)[:0], "labels": np.zeros(0, int)}, "0 labels"),
    ({"images": pixels(2), "labels": [0.5, 1]}, "whole numbers or words"),
    ({"images": pixels(2), "labels": np.array([{}, {}])}, "never unpickled"),
    ({"images": np.array([pixels(1), None], object), "labels": [0, 1]}, "never unpickled"),
    ({"images": np.asfortranarray(pixels(2)), "labels": [0, 1]}, "np.ascontiguousarray"),
    ({"images": pixels(2), "x": pixels(2), "labels": [0, 1]},
     "cannot be told: it has images [2, 8, 6, 3], x [2, 8, 6, 3]"),
    ({"train_images": pixels(2), "test_labels": [0, 1]}, "no pair of arrays"),
    ({"arr_0": pixels(2), "arr_1": [0, 1]},
     "no pair of arrays such as train_images and train_labels, or images and labels: it has arr_0 [2, 8, 6, 3]"),
    ({}, "it has no array"),
])
def test_arrays_of_another_kind_are_refused_by_name(tmp_path, arrays, words):
    assert words in refused(npz_folder, saved(tmp_path / "a.npz", **arrays))


def test_images_without_labels_are_left_out_and_named(tmp_path):
    folder = npz_folder(saved(tmp_path / "a.npz", train_images=pixels(), train_labels=[0, 1] * 3,
                              test_images=pixels(2)))
    assert len(table(folder)) == 6 and list(why(folder)) == ["test_images"]


def npy(shape: str, descr="|u1", data=b"", version=(1, 0), fortran="False") -> bytes:
    head = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<L", len(head)) + head + data


@pytest.mark.parametrize("array", [
    npy("(4000000000, 4000000000, 3)"), npy("(-1, -8, 6)", data=bytes(48)), npy("(2, 8, 6)", data=bytes(95)),
    npy("(2, 8, 6)", data=bytes(97)),
    npy("(2, 8, 6)", "|O", bytes(768)), npy("(2, 8, 6)", [("a", "|u1"), ("b", "|O")], bytes(96)),
    npy("(2, 8, 6)", "nonsense", bytes(96)),
    npy("__import__('os').system('touch /tmp/leuknb-owned')"), npy("(2, 8, 6)", data=bytes(96), version=(2, 0)),
    npy("(2, 8, 6)", data=bytes(96), version=(9, 9)),
    b"\x93NUMPY\x01\x00\xff\xff{", b"\x80\x04\x95pickled", b"", npy("(True, 'a', 6)", data=bytes(96)), npy("(0, 8, 6)"),
    npy("(2, 0, 6)"),
])
def test_headers_that_cannot_be_true_are_refused_before_anything_is_read(tmp_path, array):
    path = zipped(tmp_path / "a.npz", {"images.npy": array, "labels.npy": npy("(2,)", data=b"\0\1")})
    refused(npz_folder, path)
    assert not Path("/tmp/leuknb-owned").exists()


def test_a_bomb_of_zeros_two_arrays_of_one_name_and_huge_labels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "HARMLESS", 10**6)
    assert "unpacks to more than" in refused(npz_folder,
                                             saved(tmp_path / "a.npz", True,
                                                   images=np.zeros((20, 300, 300, 3), np.uint8), labels=[0] * 20))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as z, pytest.warns(UserWarning):
        for _ in range(2): z.writestr("images.npy", npy("(1, 2, 2)", data=bytes(4)))
    assert "images.npy twice" in refused(npz_folder, tmp_path / "b.npz")
    assert "whole numbers or words" in refused(npz_folder,
                                               saved(tmp_path / "c.npz", images=pixels(2), labels=["a" * 5000, "b"]))
    monkeypatch.setattr(npz, "MEMBERS", 1)
    assert "2 labels" in refused(npz_folder, saved(tmp_path / "d.npz", images=pixels(2), labels=[0, 1]))


# whatever file

def test_a_path_of_any_kind_becomes_a_folder_of_images(tmp_path):
    assert names(unpacked(zipped(tmp_path / "A.ZIP", CELLS))) == READ
    assert len(table(unpacked(saved(tmp_path / "a.npz", images=pixels(), labels=[0] * 6)))) == 6
    assert table(unpacked(parqueted(tmp_path / "a.parquet"), label="patient_id"))[0]["label"] == "P0"
    inside = zipped(tmp_path / "p.zip", {"data/train.parquet": (tmp_path / "a.parquet").read_bytes()})
    assert len(table(unpacked(inside))) == 6
    (tmp_path / "folder").mkdir()
    assert unpacked(tmp_path / "folder") == tmp_path / "folder" and unpacked("labels.csv") == Path("labels.csv")


def test_a_table_of_the_layouts_reads_what_the_readers_write(tmp_path):
    from leuknb.data.datasets import load_dataset
    from leuknb.settings import make_settings

    folder = parquet_folder(parqueted(tmp_path / "a.parquet", n=12))
    d = load_dataset(make_settings(data=str(folder)))
    assert d.counts == {"abnormal": 6, "normal": 6} and len(set(d.groups)) == 6 and not len(d.skipped)


# the hub

HUB = pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A cache of the hub as its library lays it out, offline: files -> the folder of the dataset in it."
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def fill(files: dict, name="ward7/smears", revision="main") -> Path:
        from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache

        root, commit = tmp_path / "hub" / f"datasets--{name.replace('/', '--')}", "4f" * 20
        (root / "refs").mkdir(parents=True)
        (root / "refs" / revision).write_text(commit)
        entries = {}
        for i, (file, data) in enumerate(files.items()):
            blob, link = root / "blobs" / f"{i}", root / "snapshots" / commit / file
            blob.parent.mkdir(exist_ok=True)
            blob.write_bytes(data)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
            entries[file] = TreeCacheEntry(size=len(data), blob_id=str(i), lfs_sha256=None, lfs_size=None,
                                           xet_hash=None)
        write_tree_cache(str(root), commit, entries)
        return root

    return fill


def test_a_folder_of_the_hub_is_read_offline_from_its_cache_without_a_link_that_leads_out(hub):
    hub({"blast/1.png": picture(1), "normal/2.png": picture(2), "metadata.jsonl": b"{}", ".hidden/3.png": picture(3)})
    folder = hub_folder("hf:ward7/smears")
    assert names(folder) == ["blast/1.png", "metadata.jsonl",
                             "normal/2.png"] and not any(p.is_symlink() for p in folder.rglob("*"))
    assert hub_folder("hf:ward7/smears@main") == folder


def test_parquet_and_archives_of_the_hub_are_read_further(hub, tmp_path):
    shards = {f"data/{p}-00000-of-00001.parquet": parqueted(tmp_path / f"{p}.parquet").read_bytes()
              for p in ("train", "test")}
    hub({**shards, "README.csv": b"a"})
    assert [r["split"] for r in table(hub_folder("hf:ward7/smears"))] == ["test"] * 6 + ["train"] * 6
    hub({"train.zip": zipped(tmp_path / "t.zip", {"a/1.png": picture(1), "../2.png": picture(2)}).read_bytes(),
         "code.zip": b"PK", "train.tar": taped(tmp_path / "t.tar", [("a/1.png", picture(3))], "w:").read_bytes()},
        "ward7/zipped")
    folder = hub_folder("hf:ward7/zipped")
    assert names(folder) == ["train.zip/a/1.png", "train/a/1.png"] and set(why(folder)) == {"code.zip",
        "train.zip/../2.png"}


@pytest.mark.parametrize("data", ["hf:", "hf:smears", "hf:../../etc", "hf:a/..", "hf:a/b/c", "hf:a/b@",
                                  "hf:a/b@../../x", "hf:/a/b", "hf:a/b\n", "hf:-a/b@-x"])
def test_names_that_are_none_are_refused_before_the_hub_is_asked(data, monkeypatch):
    monkeypatch.setattr(HUB, "snapshot_download", lambda *a, **k: pytest.fail("asked"))
    assert "write hf:owner/name" in refused(hub_folder, data)


def test_what_the_hub_cannot_give_is_one_sentence(hub, monkeypatch):
    assert "the hub cannot be reached" in refused(hub_folder, "hf:ward7/none")
    hub({"model.py": b"x", "notes.csv": b"x"})
    assert "holds no image, Parquet or archive" in refused(hub_folder, "hf:ward7/smears")
    hub({"a.zip": b"PK", "b.npz": b"x"}, "ward7/broken")
    assert "a.zip cannot be read" in refused(hub_folder, "hf:ward7/broken")
    from huggingface_hub.errors import RepositoryNotFoundError

    absent = RepositoryNotFoundError.__new__(RepositoryNotFoundError)  # the library makes it of an answer of the hub
    for error, words in ((absent, "hf auth login"), (ValueError("no\nsuch"), "could not be downloaded (no)")):
        def fail(*_, error=error, **__): raise error
        monkeypatch.setattr(HUB, "snapshot_download", fail)
        assert words in refused(hub_folder, "hf:ward7/other")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install leuknb[hub]" in refused(hub_folder, "hf:ward7/other")
