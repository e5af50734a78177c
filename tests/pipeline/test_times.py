"""Times: numbers, ISO 8601 with and without zones, patterns, and what the first rows decide."""

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmclrec_tf.errors import InputError
from pipeline.datasets.table_specs import Interactions
from pipeline.transforms import times
from pipeline.transforms.row_parsers import InteractionParser
from pipeline.transforms.row_values import MalformedError

LOG = Interactions("log.csv", "user", "item", "at")
ISO = dataclasses.replace(LOG, time_format="iso8601")
SECOND = 10**6
# 24 August 2025, 07:08:00 in UTC.
MORNING = 1756019280 * SECOND


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
def test_numbers(text, decimals, expected):
    table = dataclasses.replace(LOG, time_decimals=decimals)
    assert times.parse(text, table) == expected


@pytest.mark.parametrize(
    ("text", "decimals", "rule"),
    [
        (b"1.5", 0, "must be an integer"),
        (b"", 0, "must be an integer"),
        (b"2025-08-24", 0, "must be an integer"),
        (b"1e9", 3, "must be a number"),
        (b"1_000", 0, "must be an integer"),
        (b".5", 3, "must be a number"),
        (b"9223372036854775808", 0, "must fit 64 bits"),
        (b"9223372036854775807", 3, "must fit 64 bits"),
        (b"9" * 5000, 0, "must be an integer"),
    ],
)
def test_malformed_numbers(text, decimals, rule):
    table = dataclasses.replace(LOG, time_decimals=decimals)
    with pytest.raises(MalformedError, match=f"column 'at' {rule}"):
        times.parse(text, table)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-08-24T07:08:00+00:00", MORNING),
        ("2025-08-24T07:08:00Z", MORNING),
        ("2025-08-24T07:08:00", MORNING),
        ("2025-08-24 07:08", MORNING),
        ("2025-08-24 07:08:00 UTC", MORNING),
        ("2025-08-24T09:08:00+02:00", MORNING),
        ("2025-08-24T02:08-0500", MORNING),
        ("2025-08-24 12:38:00+0530", MORNING),
        ("2025-08-23T23:08-08", MORNING),
        ("2025-08-24t07:08:00.123z", MORNING + 123_000),
        ("2025-08-24T07:08:00,123456789Z", MORNING + 123_456),
        ("2025-08-24T07:07:60Z", MORNING),
        ("2025-08-24T07", MORNING - 8 * 60 * SECOND),
        ("2025-08-24", MORNING - (7 * 60 + 8) * 60 * SECOND),
        ("1969-12-31T23:59:59.5", -SECOND // 2),
        ("0001-01-01", -62135596800 * SECOND),
        ("9999-12-31T23:59:59.999999", 253402300800 * SECOND - 1),
    ],
)
def test_iso_8601(text, expected):
    assert times.parse(text.encode(), ISO) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "not-a-date", "1756019280", "2025-8-24", "24-08-2025", "2025-02-29", "0000-01-01"),
        *("2025-08-24T24:00", "2025-08-24T07:60", "2025-08-24T07:08:61", "2025-08-24T0708"),
        *("2025-08-24T07:08+24:00", "2025-08-24T07:08+02:60", "2025-08-24T07:08 CEST"),
        *("2025-08-24T07:08:00.", "2025-08-24T", "2025-08-24Z", "12025-08-24", "2025-08-24\n"),
    ],
)
def test_malformed_iso_8601(text):
    with pytest.raises(MalformedError, match="column 'at' must be a time of ISO 8601"):
        times.parse(text.encode(), ISO)


DAYS = ("2025-08-24", "2024-02-29", "2025-02-29", "0000-01-01", "0001-01-01", "1960-1")
HOURS = ("", "T07", " 23:59", "t07:08", "T07:08:00", "T07:08:60", "T24:00", "T07:08:00.25")
ZONES = ("", "", "Z", "+02:00", "-0530", "+05", " UTC", "+24:00", "-00:60", ".1234567")
PARTS = st.tuples(*map(st.sampled_from, (DAYS, HOURS, ZONES))).map("".join)


@settings(deadline=None)
@given(st.lists(PARTS, max_size=4))
def test_many_times_at_once_equal_single_ones(texts):
    values = times.parse_iso(pa.array([text.encode() for text in texts], pa.binary()))
    if values is not None:
        assert values.tolist() == [times.parse(text.encode(), ISO) for text in texts]


def test_usual_times_are_parsed_at_once():
    for texts in ([b"2025-08-24T09:08:00+02:00", b"2025-08-24T07:08:00Z"], [b"2025-08-24 07:08"]):
        assert set(times.parse_iso(pa.array(texts, pa.binary())).tolist()) == {MORNING}
    for texts in ([b"soon"], [b"\xff"], [b"2025-08-24", b"2025-08-24T07:08Z"]):
        assert times.parse_iso(pa.array(texts, pa.binary())) is None


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("%d.%m.%Y %H:%M", "24.08.2025 07:08"),
        ("%m/%d/%y %I:%M:%S %p", "08/24/25 07:08:00 AM"),
        ("%Y%m%dT%H%M%S%z", "20250824T090800+0200"),
        ("%a %b %d %H:%M:%S %z %Y", "Sun Aug 24 07:08:00 +0000 2025"),
    ],
)
def test_patterns(pattern, text):
    table = dataclasses.replace(LOG, time_format=pattern)
    assert times.parse(text.encode(), table) == MORNING
    for malformed in (b"24", b"\xff", text.encode() + b" x"):
        with pytest.raises(MalformedError, match="must be a time of the pattern"):
            times.parse(malformed, table)


@pytest.mark.parametrize("pattern", ["iso", "%H:%M", "%m/%Y", "%d.%m.", "%Q", "date"])
def test_a_pattern_needs_a_whole_date(pattern):
    with pytest.raises(InputError, match="time_format=.* with year, month and day"):
        dataclasses.replace(LOG, time_format=pattern)


@pytest.mark.parametrize("pattern", ["%Y-%m-%d %H:%M %Z", "%Z %Y-%m-%d", "%Y-%m-%d %%%Z"])
def test_a_pattern_reads_no_names_of_zones(pattern):
    """Which names are known depends on the machine, and none of them moves the time."""
    with pytest.raises(InputError, match="time_format=.*%Z reads the names of zones.*Use %z"):
        dataclasses.replace(LOG, time_format=pattern)


@pytest.mark.parametrize(
    "pattern", ["%Y-%m-%d %I:%M", "%Y-%m-%d %I", "%Y-%m-%d %p", "%Y-%m-%d %M", "%Y-%m-%d %H:%S"]
)
def test_a_pattern_with_a_time_needs_the_hour_of_the_day(pattern):
    with pytest.raises(InputError, match="time_format=.*the hour as %H, or as %I with %p"):
        dataclasses.replace(LOG, time_format=pattern)


@pytest.mark.parametrize(
    "pattern", ["%Y-%m-%d", "%Y-%m-%d %H", "%c", "%Y-%m-%d %I %p", "%d%m%y%%Z"]
)
def test_patterns_that_need_no_more(pattern):
    assert dataclasses.replace(LOG, time_format=pattern).time_format == pattern


def test_only_numbers_have_decimals():
    with pytest.raises(InputError, match="time_decimals=3 with time_format='iso8601'"):
        dataclasses.replace(ISO, time_decimals=3)


def test_most_rows_decide():
    assert times.guess_format([b"2025-08-24", b"x", b"2025-08-24T07:08Z", b"12"]) == "iso8601"
    assert times.guess_format([b"20250824", b"12.5", b"2025-08-24"]) == "number"
    assert times.guess_format([]) == times.guess_format([b"x"]) == "number"


PATTERN = dataclasses.replace(LOG, time_format="%d.%m.%Y %H:%M")


@pytest.mark.parametrize(
    ("text", "table", "unit", "expected"),
    [
        (" 30 ", LOG, "", 30),
        ("1.5", dataclasses.replace(LOG, time_decimals=3), "", 1500),
        ("2025-08-24T07:08", ISO, "", MORNING),
        ("24.08.2025 07:08", PATTERN, "", MORNING),
        ("2025-08-24T09:08+02", PATTERN, "", MORNING),
        ("2025-08-24 07:08", LOG, "us", MORNING),
        ("2025-08-24 07:08", LOG, "s", MORNING // SECOND),
        ("2025-08-24", LOG, "d", 20324),
        ("1969-12-31T23:59:59.9", LOG, "s", -1),
        ("20324", LOG, "d", 20324),
    ],
)
def test_a_time_of_a_setting_is_written_as_those_of_the_log(text, table, unit, expected):
    assert times.parse_setting(text, table, "setting", unit) == expected


@pytest.mark.parametrize(
    ("text", "table", "unit"),
    [("2025-08-24", LOG, ""), ("2025-08-24", PATTERN, None), ("noon", ISO, ""), ("", LOG, "d")],
)
def test_another_time_of_a_setting_is_an_error_with_its_name(text, table, unit):
    with pytest.raises(InputError, match=f"^setting='{text}': .*column 'at' must be"):
        times.parse_setting(text, table, "setting", unit)


@pytest.mark.parametrize("text", [b"", b"nan", b"NULL"])
def test_a_missing_time_is_that_of_the_spec(text):
    assert times.parse(text, dataclasses.replace(LOG, missing_time="7")) == 7
    assert times.parse(text, dataclasses.replace(PATTERN, missing_time="24.08.2025 07:08")) > 7
    with pytest.raises(MalformedError):
        times.parse(text, LOG)
    with pytest.raises(InputError, match="interactions.missing_time='noon'"):
        InteractionParser(dataclasses.replace(LOG, missing_time="noon"))
    with pytest.raises(InputError, match="missing_time='7' with drop_without_time"):
        dataclasses.replace(LOG, missing_time="7", drop_without_time=True)
