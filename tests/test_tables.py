"""Tables as CSV: texts are never formulas, numbers are as ever, and what is read back is what was written."""

import io
from pathlib import Path

import pytest

from robust_data import tables

FORMULAS = (
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "'=1",
    "''-x",
    "-x",
    "--",
)
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
