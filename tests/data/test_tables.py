"Tables as people write them, and as nobody should: rows as text, or one sentence."

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leuknb.core import InputError
from leuknb.data.tables import asked_column, column_named, match_files, read_table, tidy_name, WHY


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([".csv", ".jsonl", ".xlsx"]))
def test_any_bytes_give_rows_of_text_or_one_sentence(tmp_path, data, suffix):
    path = tmp_path / f"t{suffix}"
    path.write_bytes(data)
    try: table = read_table(path)
    except InputError as e: assert str(e)
    else: assert WHY in table and not table.isna().any().any()


def test_json_lines_keep_their_values_as_text_and_bad_lines_their_reason(tmp_path):
    path = tmp_path / "metadata.jsonl"
    path.write_text('{"file_name": "a.png", "label": 1, "box": [1, 2]}\n[1]\n' + "[" * 5000 + '\n{"file_name": null}\n')
    table = read_table(path)
    assert table["label"].tolist() == ["1", "", "", ""] and json.loads(table["box"][0]) == [1, 2]
    assert [bool(w) for w in table[WHY]] == [False, True, True, False]


def test_excel_is_read_as_values_and_numbers_of_whole_value_have_no_point(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["file_name", "label", "age"], ["a.png", 1.0, 40.5], [None, None, None], ["b.png", 0, "=1+1"]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    table = read_table(tmp_path / "t.xlsx")
    assert table["label"].tolist() == ["1", "0"] and table["age"].tolist()[0] == "40.5"


def test_without_openpyxl_excel_says_what_to_install(tmp_path, monkeypatch):
    import sys

    (tmp_path / "t.xlsx").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(InputError, match=r"pip install leuknb\[excel\]"): read_table(tmp_path / "t.xlsx")


def test_two_columns_that_fit_equally_well_are_none():
    assert column_named(["Patient ID", "patient-id"], "patient_id") is None
    assert column_named(["PATIENT_ID"], "patient id") == "PATIENT_ID"
    with pytest.raises(InputError, match="did you mean 'label'"):
        asked_column(["file", "label"], "lable", "label", "t.csv")


NAMES = st.text(st.sampled_from("ab/.\\ \0"), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, max_size=4), st.lists(st.sampled_from(["a/b.png", "b/a.png", "a.png", "b/b.jpg"]), unique=True))
def test_a_matched_name_is_a_file_that_is_there_or_the_name_itself(names, files):
    for (found, why), name in zip(match_files(names, files), names):
        assert found in files or why or found == tidy_name(name)
        if ".." in tidy_name(name).split("/"): assert found not in files, "a name that climbs is never followed"
