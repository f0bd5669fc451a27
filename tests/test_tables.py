"""Names of any length and content in tables."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gem_label.evaluation.results import text_table
from gem_label.tables import CELL_WIDTH, columns, markdown_cell, shorten


@given(st.text(), st.integers(3, 60))
def test_a_cell_is_one_line_of_bounded_width(text: str, width: int) -> None:
    cell = shorten(text, width)
    assert columns(cell) <= width
    assert not any(ord(letter) < 32 for letter in cell)
    cell.encode()
    if text.isprintable() and columns(text) <= width and text.split(" ") == text.split():
        assert cell == text


def test_one_long_name_does_not_move_the_other_columns() -> None:
    long = " ".join(f"word {number}" for number in range(1000))
    lines = text_table(["class", "IoU"], [["cat", "46.2"], [long, "7.0"], ["交通信号灯", "1.0"]]).split("\n")
    assert {columns(line) for line in lines} == {CELL_WIDTH + len("  46.2")}
    assert lines[2].startswith("word 0 word 1")
    assert lines[2].endswith("word 999   7.0")


def test_a_name_stays_in_its_markdown_cell() -> None:
    row = f"| {markdown_cell('a|b' + chr(10) + 'c')} | {markdown_cell('x' * 100)} |"
    assert row.startswith("| a\\|b c | xxx")
    assert len(row) < 80
    assert markdown_cell("<b>`*") == "\\<b>\\`\\*"
