"""Tables: printed columns keep apart; in CSV texts are no formulas, and what is read back is what was written."""

import io
from pathlib import Path

import pytest

from robust_data import tables

FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1")
FORMULAS += ("'=1", "''-x", "-x", "--")
PLAIN = ("", "a", "'", "'a", "a=1", " =1", "-", "=", "-1", "+1.5", "-.5", "1e-3", "-2.5E+7", "-.")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_may_be_a_formula_begins_with_an_apostrophe(text):
    assert tables.line([text]).removeprefix('"').startswith("'")


@pytest.mark.parametrize("value", [-1, -1.5, float("-inf"), True, *PLAIN[1:-1]])
def test_numbers_and_all_other_texts_are_as_they_were(value):
    assert tables.line([value]) == f"{value}\n"


def test_what_is_read_back_is_what_was_written(tmp_path):
    texts = [*FORMULAS, *PLAIN]
    path = tables.write(tmp_path / "table.csv", [["=name", "number"], *zip(texts, range(len(texts)))])
    with open(path, newline="", encoding="utf-8") as file:
        found = tables.read(file)
    assert found == [{"=name": text, "number": str(number)} for number, text in enumerate(texts)]


def test_a_path_is_a_text_and_none_is_an_empty_cell():
    assert tables.line([Path("-x"), None, 1]) == "'-x,,1\n"


def test_an_empty_file_has_no_lines():
    assert tables.read(io.StringIO("")) == []


def test_columns_keep_apart_whatever_stands_in_them(capsys):
    tables.show([("name", "sensitivity"), ("a" * 40, "1" * 30), ("b", "2", "3")], widths=(8, 4))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ") for line in lines[1:2]] == [["a" * 40, "1" * 30]]
    assert lines[0] == "name" + " " * 57 + "sensitivity" and lines[2].split() == ["b", "2", "3"]
    tables.show([("b", "2", "3")], widths=(4, 4))
    assert capsys.readouterr().out == "b        2  3\n"


@pytest.mark.parametrize(
    "value, text", [(0.5, "0.5000"), (-99_999.5, "-99999.5000"), (1.2345e11, "1.234e+11"), (float("nan"), "nan")]
)
def test_large_numbers_have_a_power_of_ten(value, text):
    assert tables.number(value) == text
