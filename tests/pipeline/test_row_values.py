"""Values of rows: missing ones, and those that no vocabulary can hold."""

import pytest

from pipeline.transforms import row_values


@pytest.mark.parametrize("text", [b"", b"NaN", b"nan", b"NULL"])
def test_missing_values(text):
    assert row_values.is_missing({"at": text}, "at")
    assert not row_values.is_missing({"at": b"0"}, "at")


@pytest.mark.parametrize("text", [b"a\nb", b"a\rb", b"a\r\nb", b"\n", b"\r"])
def test_no_value_holds_a_line_end(text):
    with pytest.raises(row_values.MalformedError, match="column 'c' must not hold a line end"):
        row_values.token(text, "c")
    with pytest.raises(row_values.MalformedError, match="column 'c' must not hold a line end"):
        row_values.key({"c": text}, "c")


@pytest.mark.parametrize(
    "text", ["\0", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", " ", "\ufeff", "\x1a"]
)
def test_all_other_characters_are_part_of_a_value(text):
    value = f"a{text}b".encode()
    assert row_values.token(value, "c") == row_values.key({"c": value}, "c") == value
