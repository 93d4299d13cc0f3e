"""Tables that people and programs can read, and JSON."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ebsim.cli.messages import printable
from ebsim.cli.output import Column, print_fields, print_json, print_table


def test_a_table_is_aligned_with_numbers_at_the_right_and_empty_cells_visible(capsys) -> None:
    print_table(
        [Column("id"), Column("size", is_number=True), Column("description")],
        [["snap-1", "512 KiB", "first"], ["snap-22", "2 GiB", ""]],
    )
    assert capsys.readouterr().out == (
        "id          size  description\nsnap-1   512 KiB  first\nsnap-22    2 GiB  -\n"
    )


def test_a_table_without_rows_is_its_header(capsys) -> None:
    print_table([Column("id"), Column("size", is_number=True)], [])
    assert capsys.readouterr().out == "id  size\n"


def test_long_cells_are_never_cut(capsys) -> None:
    print_table([Column("path")], [["x" * 5000]])
    assert "x" * 5000 in capsys.readouterr().out


def test_fields_are_printed_a_line_each(capsys) -> None:
    print_fields({"id": "snap-1", "description": "two\nlines", "tags": ""})
    assert capsys.readouterr().out == (
        "id           snap-1\ndescription  two\\nlines\ntags         -\n"
    )


def test_json_is_indented_and_reads_back_the_same(capsys) -> None:
    document = {
        "Snapshots": [{"SnapshotId": "snap-1", "VolumeSize": 1, "Description": "café \udcff"}]
    }
    print_json(document)
    text = capsys.readouterr().out
    assert text.startswith('{\n  "Snapshots": [\n')
    assert json.loads(text) == document


@given(st.text())
def test_what_is_printed_holds_no_control_character(text: str) -> None:
    assert printable(text).isprintable()


@given(st.text().filter(str.isprintable))
def test_printable_text_is_printed_as_it_is(text: str) -> None:
    assert printable(text) == text
