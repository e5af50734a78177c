"""Reading a log by blocks gives the same events as reading it row by row."""

import collections
import gzip

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.datasets import text_rows
from pipeline.datasets.spec import DatasetSpec
from pipeline.transforms import plain_lines, read_newest
from pipeline.transforms.first_rows import parser_of
from pipeline.transforms.layouts import layout_of
from pipeline.transforms.newest import NewestEvents
from pipeline.transforms.read_newest import ReadNewest
from pipeline.transforms.read_rows import _rows, _spans
from pipeline.transforms.read_tables import Parse

KEEP = 3
LOG = {"file": "log.csv", "delimiter": ",", "user": "user", "item": "item", "time": "time"}
KEEPS = {
    "all": {},
    "some": {"keep": {"column": "liked", "one_of": ["1", "yes"]}},
    "enough": {"keep": {"column": "liked", "at_least": 3.5}},
    "timed": {"drop_without_time": True},
    "filled": {"missing_time": "7", "time_format": "number"},
    "filled dates": {"time_format": "iso8601", "missing_time": "2024-01-01"},
    "decimals": {"time_decimals": 2},
    "dates": {"time_format": "iso8601"},
}
HEADER = b"user,more,item,time,liked\n"
PLAIN = st.tuples(
    st.sampled_from([b"u1", b"u2", b" u3 ", b"\xff\x00"]),
    st.sampled_from([b"", b"x"]),
    st.sampled_from([b"i1", b"i 2", b"\ti3", "K\u00f6ln".encode()]),
    st.one_of(st.integers(0, 9), st.integers(0, 10**15)).map(lambda n: b"%d" % n),
    st.sampled_from([b"1", b"yes", b"no", b"4", b"3.5", b"2"]),
).map(b",".join)
ODD = st.sampled_from(
    [
        *(b"", b" ", b"u1", b"u1,x,i1,5,1,more", b'u1,x,"a, b",5,1', b'u1,x,"a,5,1'),
        *(b",x,i1,5,1", b"u1,x, ,5,1", b"u1,x,i1,,1", b"u1,x,i1,NaN,1", b"u1,x,i1,soon,nan"),
        *(b"u1,x,i1,+5,1", b"u1,x,i1,-5,1", b"u1,x,i1,5.0,1", b"u1,x,i1,5.25,1", b"u1,x,i1,0x1,1"),
        *(
            b"u1,x,i1,99999999999999999999,1",
            b"u1,x,i1,99999999999999999,1",
            b"u1,x,i1,5,1\r",
            b"u1,x,i1,5\r,1",
            b"\xef\xbb\xbfu1",
            b"u1,x,i1,2025-08-24T07:08:00+02:00,1",
            b"u1,x,i1,2025-08-24 07:08,1",
            b'u1,"x',
            b'y",i2,6,1',
            b'"u2","x","i\r1","5","1"',
        ),
    ]
)
LINES = st.lists(st.tuples(st.one_of(PLAIN, PLAIN, ODD), st.sampled_from([b"\n", b"\r\n"])))
PLAIN_LINES = st.lists(st.tuples(PLAIN, st.just(b"\n")), min_size=1)
SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write_spec(folder, kind):
    (folder / "users.csv").write_text("id\nu1\n")
    users = {"file": "users.csv", "delimiter": ",", "id": "id", "features": [{"name": "id"}]}
    log = {**LOG, **KEEPS[kind]}
    return DatasetSpec.from_dict(
        {"name": "log", "interactions": log, "users": users, "max_rejects": 1000}
    )


def by_blocks_and_by_rows(folder, kind, text, span):
    """Reads a log twice, by blocks and row by row; returns ({user: (count, newest)}, rejects)."""
    (folder / "log.csv").write_bytes(text)
    log = write_spec(folder, kind).interactions
    layout = layout_of(log, folder)
    settings_of_both = {
        "name": "interactions",
        "parser": parser_of(log, layout),
        "layout": layout,
        "stop": False,
    }
    parse_span = read_newest._NewestOfSpan(KEEP, **settings_of_both)
    parse_row = Parse(**settings_of_both)
    spans = _spans((0, str(folder / "log.csv")), span)
    combine = NewestEvents(KEEP)
    parts, rejects = collections.defaultdict(list), ([], [])
    parse_span.start_bundle()
    for place in spans:
        for element in parse_span.process(place):
            if isinstance(element, beam.pvalue.TaggedOutput):
                rejects[0].append(element.value)
            else:
                parts[element[0]].append(element[1])
    for element in parse_span.finish_bundle():
        parts[element.value[0]].append(element.value[1])
    whole = collections.defaultdict(combine.create_accumulator)
    for place in spans:
        for row in _rows(place, [layout.shape(0)]):
            for element in parse_row.process(row):
                if isinstance(element, beam.pvalue.TaggedOutput):
                    rejects[1].append(element.value)
                else:
                    user, event = element
                    whole[user] = combine.add_input(whole[user], event)
    merge = lambda of_user: combine.extract_output(combine.merge_accumulators(of_user))
    merged = {user: merge(of_user) for user, of_user in parts.items()}
    expected = {user: combine.extract_output(of_user) for user, of_user in whole.items()}
    return (merged, rejects[0]), (expected, rejects[1])


@pytest.mark.parametrize("kind", KEEPS)
@SLOW
@given(lines=LINES, span=st.sampled_from([7, 40, 1 << 20]), last=st.booleans())
def test_any_lines(tmp_path, kind, lines, span, last):
    text = HEADER + b"".join(line + end for line, end in lines)
    actual, expected = by_blocks_and_by_rows(
        tmp_path, kind, text if last else text.rstrip(b"\n"), span
    )
    assert actual == expected


@pytest.mark.parametrize("kind", sorted(set(KEEPS) - {"enough", "dates", "filled dates"}))
@SLOW
@given(lines=PLAIN_LINES)
def test_plain_lines_are_never_parsed_one_by_one(tmp_path, kind, lines):
    def no_row(*_):
        raise AssertionError("a row of its own")

    text = HEADER + b"".join(line + end for line, end in lines)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(read_newest, "rows", no_row)
        actual, expected = by_blocks_and_by_rows(tmp_path, kind, text, 1 << 20)
    assert actual == expected


@pytest.mark.parametrize("time", ["2025-08-{:02d}T07:{:02d}:00+02:00", "2025-08-{:02d} 07:{:02d}"])
def test_blocks_of_dates_are_never_parsed_one_by_one(tmp_path, time, monkeypatch):
    monkeypatch.setattr(read_newest, "rows", None)
    rows = [f"u{n % 3},,i{n},{time.format(1 + n % 28, n % 60)},1\n" for n in range(99)]
    actual, expected = by_blocks_and_by_rows(
        tmp_path, "dates", HEADER + "".join(rows).encode(), 1 << 20
    )
    assert actual == expected and len(actual[0]) == 3


@pytest.mark.parametrize(
    "text",
    [b"", b"7", b"-7", b"+7", b"7.0", b"0x7", b"7" * 18, b"7" * 19, b" 7", "\u0667".encode()],
)
def test_digits(text):
    import pyarrow as pa

    integers = plain_lines.digits(pa.array([b"12", text], pa.binary()))
    expected = [12, int(text)] if text.isdigit() and len(text) <= 18 else None
    assert (integers if integers is None else integers.tolist()) == expected


def test_blocks_of_a_compressed_file_and_counters(tmp_path, monkeypatch):
    """Reads a compressed file, which is one span, with Beam; its last block is not plain."""
    monkeypatch.setattr(text_rows, "BLOCK", 1000)
    dataset = write_spec(tmp_path, "some")
    rows = [f"u{n % 5},x,i{n},{n},{n % 2}\n".encode() for n in range(1000)]
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(HEADER + b"".join([*rows, b"odd\n"])))
    log = {**LOG, **KEEPS["some"], "file": "log.csv.gz"}
    dataset = DatasetSpec.from_dict({**dataset.to_dict(), "interactions": log})
    pipeline = beam.Pipeline("FnApiRunner")
    newest, rejects = pipeline | ReadNewest(dataset, tmp_path, KEEP)
    summaries = newest | beam.Map(
        lambda element: (element[0], element[1][0], [item for _, item in element[1][1]])
    )
    expected = [
        (
            f"u{u}".encode(),
            100,
            [f"i{n}".encode() for n in range(1000) if n % 5 == u and n % 2][-3:],
        )
        for u in range(5)
    ]
    assert_that(summaries, equal_to(expected))
    assert_that(rejects | beam.combiners.Count.Globally(), equal_to([1]), "One")
    result = pipeline.run()
    result.wait_until_finish()
    counts = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
    assert (
        counts["events"] == 500 and counts["rows_not_kept"] == 500 and counts["rows_rejected"] == 1
    )
