"""Rows of delimited text: quotes, line ends inside of them, headers, and spans that cut rows."""

import gzip
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmclrec_tf.errors import InputError
from pipeline.datasets import delimited, text_rows
from pipeline.datasets.delimited import FormatError, fields, names
from pipeline.datasets.text_rows import RowShape

THREE = RowShape(",", 3)
HEADER = b"user,job,note\n"


def _rows(block, shape=THREE):
    return [row for _, row in text_rows.rows(0, block, shape)]


def test_fields():
    assert fields(b'1,"a, ""b""",\xff', ",") == [b"1", b'a, "b"', b"\xff"]
    assert fields(b'1;"a; b";', ";") == [b"1", b"a; b", b""]
    assert fields(b'1\t"a\tb"', "\t") == [b"1", b'"a', b'b"']
    assert fields(b'1,24" screen,x', ",") == [b"1", b'24" screen', b"x"]
    assert fields(b'1,"a\r\nb",x', ",") == [b"1", b"a\r\nb", b"x"]


@pytest.mark.parametrize("row", [b'1,"a', b'1,"a"b,c', b"1,a\rb", b"1,a\nb", b'"a",b\rc', b'"a\0"'])
def test_malformed_rows(row):
    with pytest.raises(FormatError):
        fields(row, ",")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # One row with a line end in a note, and no user u9.
        (['u1,eng,"good', 'u9,bad,x"', "u2,art,"], [2, 1]),
        (['u1,eng,"good', "u9,bad,x", "", 'u8,""y"",z"', "u2,art,"], [4, 1]),
        # A quote that nothing closes costs its own row and no other.
        (['u1,eng,"good', "u9,bad,x", "u2,art,"], [1, 1, 1]),
        (['u1,eng,"good', "u9,bad,x", 'u2,"art",'], [1, 1, 1]),
        (['u1,"eng,good', 'u9,"bad,x', "u2,art,"], [1, 1, 1]),
        # The fields of all lines together are too many for one row.
        (['u1,"eng', 'u9",bad,x', "u2,art,"], [1, 1, 1]),
        (['u1,"eng",good', '"u9",bad,"x"'], [1, 1]),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_of_a_row(lines, expected, end):
    block = end.join(line.encode() for line in lines) + end
    counts = [row.count(b"\n") for row in delimited.rows(block, *THREE)]
    assert counts == expected
    assert b"".join(delimited.rows(block, *THREE)) == block


def test_tabs_have_no_quotes():
    assert _rows(b'a\t"b\tc\nd\te"\tf\n', RowShape("\t", 3)) == [b'a\t"b\tc', b'd\te"\tf']


PIECES = st.sampled_from(
    [b"u1,a,b", b'u2,"a, b",', b'u3,a,"x', b"u9,bad,y", b'z"', b'u4,"x', b'y",z', b"", b'"', b'",']
)


@pytest.mark.parametrize("most", [20, 1 << 20])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES), last=st.booleans())
def test_spans_share_out_all_lines(tmp_path, most, pieces, last):
    """However long the spans are, no line is lost and none is read twice."""
    text = HEADER + b"".join(piece + b"\n" for piece in pieces)
    text = text if last else text.rstrip(b"\n")
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    body = text[len(HEADER) :]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(delimited, "MOST_BYTES", most)
        whole = list(delimited.rows(body, *THREE))
        for span in (1, 7, 19, 1 << 20):
            blocks = [
                block
                for start in range(0, len(text), span)
                for block in text_rows.blocks(path, start, start + span, THREE)
            ]
            assert b"".join(block for _, block in blocks) == body
            assert all(text[at:].startswith(block) for at, block in blocks)
            rows = [row for _, block in blocks for row in delimited.rows(block, *THREE)]
            assert most == 20 or rows == whole
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(text_rows, "BLOCK", 5)
            blocks = list(text_rows.blocks(tmp_path / "t.csv.gz", 0, math.inf, THREE))
        assert b"".join(block for _, block in blocks) == body


def test_a_row_at_the_end_of_a_large_block_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(text_rows, "BLOCK", 1 << 10)
    monkeypatch.setattr(delimited, "MOST_BYTES", 1 << 8)
    row = b'u1,a,"' + b"line\r\n" * 9 + b'end"\n'
    (tmp_path / "t.csv").write_bytes(HEADER + row * 200)
    blocks = list(text_rows.blocks(tmp_path / "t.csv", 0, math.inf, THREE))
    assert len(blocks) > 9
    assert all(len(block) % len(row) == 0 for _, block in blocks)
    # A row that is too long to be found is not searched for to the end of the file.
    monkeypatch.setattr(delimited, "MOST_BYTES", len(row) - 1)
    assert len(_rows(row)) == row.count(b"\n")


@pytest.mark.parametrize("size", [131_072, 131_073, 200_000, 900_000])
def test_a_long_field_is_one_field(size):
    line = b"u9,bad,x\n"
    note = (line * (size // len(line) + 1))[:size].rstrip(b"\n")
    row = b'u1,eng,"good\n' + note + b'"'
    assert _rows(row + b"\nu2,art,\n") == [row, b"u2,art,"]
    assert fields(row, ",") == [b"u1", b"eng", b"good\n" + note]


def test_a_row_with_quotes_has_at_most_1_mib():
    start = b'u1,eng,"'
    longest = start + b"x" * (delimited.MOST_BYTES - len(start) - 1) + b'"'
    assert [len(field) for field in fields(longest, ",")] == [2, 3, len(longest) - len(start) - 1]
    with pytest.raises(FormatError, match="a row with quotes must have at most 1,048,576 bytes"):
        fields(longest[:-1] + b'x"', ",")
    assert len(fields(longest.replace(b'"', b"x") * 2, ",")) == 5
    # The lines of a longer row are rows by themselves, the first of them a malformed one.
    row = start + b"\n" + b"u9,bad,x\n" * (delimited.MOST_BYTES // 9) + b'"\n'
    first, second, *_ = _rows(row)
    assert (first, second) == (start, b"u9,bad,x")
    with pytest.raises(FormatError, match="quotes must stand in pairs .* within 1,048,576 bytes"):
        fields(first, ",")


def test_names():
    assert names(b"\xef\xbb\xbf" + b'"a b", c\r\n', ",", "t.csv") == ["a b", "c"]
    assert names(b"user_id:token\tage:float\n", "\t", "t.inter") == ["user_id", "age"]
    # Only RecBole types all columns.
    assert names(b"price:float,user", ",", "t.csv") == ["price:float", "user"]
    assert names(b"a:token,b:text", ",", "t.csv") == ["a:token", "b:text"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"sep=;\r\n", r"'sep=;' in t.csv: .* set delimiter: ';' in the dataset spec"),
        (b'\xef\xbb\xbf"sep=\t"\n', "name the columns"),
        ("a,b\n".encode("utf-16"), "t.csv: it must be UTF-8, and it begins as UTF-16"),
        (b'a,"b\n', "first line of t.csv: its quotes must stand in pairs"),
        (b"a,b\r1,2\r3,4\r", "first line of t.csv: it must not hold a line end"),
    ],
)
def test_malformed_headers(header, message):
    with pytest.raises(InputError, match=message):
        names(header, ",", "t.csv")
