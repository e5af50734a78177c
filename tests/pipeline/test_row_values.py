"""Values of rows: times, missing values and malformed ones."""

import pytest

from pipeline.transforms import row_values


@pytest.mark.parametrize(
    ("text", "decimals", "expected"),
    [
        (b"30", 0, 30),
        (b"-30.0", 0, -30),
        (b"+7.", 0, 7),
        (b"1593878903.438", 3, 1593878903438),
        (b"1593878903.4", 3, 1593878903400),
        (b"1593878903", 3, 1593878903000),
        (b"1.99999", 3, 1999),
        (b"-1.5", 3, -1500),
        (b"9223372036854775807", 0, (1 << 63) - 1),
    ],
)
def test_times(text, decimals, expected):
    assert row_values.time({"at": text}, "at", decimals) == expected


@pytest.mark.parametrize(
    ("text", "decimals", "rule"),
    [
        (b"1.5", 0, "must be an integer"),
        (b"", 0, "must be an integer"),
        (b"1e9", 3, "must be a number"),
        (b"1_000", 0, "must be an integer"),
        (b".5", 3, "must be a number"),
        (b"9223372036854775808", 0, "must fit 64 bits"),
        (b"9223372036854775807", 3, "must fit 64 bits"),
        (b"9" * 5000, 0, "must be an integer"),
    ],
)
def test_malformed_times(text, decimals, rule):
    with pytest.raises(row_values.MalformedError, match=f"column 'at' {rule}"):
        row_values.time({"at": text}, "at", decimals)


@pytest.mark.parametrize("text", [b"", b"NaN", b"nan", b"NULL"])
def test_missing_values(text):
    assert row_values.is_missing({"at": text}, "at")
    assert not row_values.is_missing({"at": b"0"}, "at")
