"""Whole spans of a log give what its rows give one by one."""

import collections
import gzip

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.datasets.spec import DatasetSpec
from pipeline.transforms import plain_lines, read_newest, read_rows
from pipeline.transforms.layouts import layout
from pipeline.transforms.newest import NewestEvents
from pipeline.transforms.read_newest import ReadNewest
from pipeline.transforms.read_rows import _lines, _spans
from pipeline.transforms.read_tables import ReadInteractions

KEEP = 3
LOG = {"file": "log.csv", "delimiter": ",", "user": "user", "item": "item", "time": "time"}
KEEPS = {
    "all": {},
    "some": {"keep": {"column": "liked", "one_of": ["1", "yes"]}},
    "enough": {"keep": {"column": "liked", "at_least": 3.5}},
    "timed": {"drop_without_time": True},
    "decimals": {"time_decimals": 2},
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
        ),
    ]
)
LINES = st.lists(st.tuples(st.one_of(PLAIN, PLAIN, ODD), st.sampled_from([b"\n", b"\r\n"])))
PLAIN_LINES = st.lists(st.tuples(PLAIN, st.just(b"\n")), min_size=1)
SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def spec(folder, kind):
    (folder / "users.csv").write_text("id\nu1\n")
    users = {"file": "users.csv", "delimiter": ",", "id": "id", "features": [{"name": "id"}]}
    log = {**LOG, **KEEPS[kind]}
    return DatasetSpec.from_dict(
        {"name": "log", "interactions": log, "users": users, "max_rejects": 1000}
    )


def both_ways(folder, kind, text, span):
    """({user: (count, newest)}, rejects) of spans, and of rows one by one."""
    (folder / "log.csv").write_bytes(text)
    dataset = spec(folder, kind)
    asked = {"name": "interactions", "table": dataset.interactions}
    asked["layout_"], asked["stop"] = layout(dataset.interactions, folder), False
    in_spans = read_newest._NewestOfSpan(KEEP, **asked)
    one_by_one = ReadInteractions._parse(**asked)
    spans = _spans((0, str(folder / "log.csv")), span)
    combine = NewestEvents(KEEP)
    parts, rejects = collections.defaultdict(list), ([], [])
    in_spans.start_bundle()
    for place in spans:
        for found in in_spans.process(place):
            if isinstance(found, beam.pvalue.TaggedOutput):
                rejects[0].append(found.value)
            else:
                parts[found[0]].append(found[1])
    for found in in_spans.finish_bundle():
        parts[found.value[0]].append(found.value[1])
    whole = collections.defaultdict(combine.create_accumulator)
    for place in spans:
        for row in _lines(*place):
            for found in one_by_one.process(row):
                if isinstance(found, beam.pvalue.TaggedOutput):
                    rejects[1].append(found.value)
                else:
                    whole[found[0]] = combine.add_input(whole[found[0]], found[1])
    merge = lambda found: combine.extract_output(combine.merge_accumulators(found))
    merged = {user: merge(found) for user, found in parts.items()}
    expected = {user: combine.extract_output(found) for user, found in whole.items()}
    return (merged, rejects[0]), (expected, rejects[1])


@pytest.mark.parametrize("kind", KEEPS)
@SLOW
@given(lines=LINES, span=st.sampled_from([7, 40, 1 << 20]), last=st.booleans())
def test_any_lines(tmp_path, kind, lines, span, last):
    text = HEADER + b"".join(line + end for line, end in lines)
    ours, expected = both_ways(tmp_path, kind, text if last else text.rstrip(b"\n"), span)
    assert ours == expected


@pytest.mark.parametrize("kind", [kind for kind in KEEPS if kind != "enough"])
@SLOW
@given(lines=PLAIN_LINES)
def test_plain_lines_are_never_read_one_by_one(tmp_path, kind, lines):
    def no_line(*_):
        raise AssertionError("a line of its own")

    text = HEADER + b"".join(line + end for line, end in lines)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(read_newest, "lines", no_line)
        ours, expected = both_ways(tmp_path, kind, text, 1 << 20)
    assert ours == expected


@pytest.mark.parametrize(
    "text",
    [b"", b"7", b"-7", b"+7", b"7.0", b"0x7", b"7" * 18, b"7" * 19, b" 7", "\u0667".encode()],
)
def test_digits(text):
    import pyarrow as pa

    found = plain_lines.digits(pa.array([b"12", text], pa.binary()))
    expected = [12, int(text)] if text.isdigit() and len(text) <= 18 else None
    assert (found if found is None else found.tolist()) == expected


def test_blocks_of_a_compressed_file_and_counters(tmp_path, monkeypatch):
    """Through Beam, from a file that is one span, of which the last block is not plain."""
    monkeypatch.setattr(read_rows, "SPAN", 1000)
    dataset = spec(tmp_path, "some")
    rows = [f"u{n % 5},x,i{n},{n},{n % 2}\n".encode() for n in range(1000)]
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress(HEADER + b"".join([*rows, b"odd\n"])))
    log = {**LOG, **KEEPS["some"], "file": "log.csv.gz"}
    dataset = DatasetSpec.from_dict({**dataset.to_dict(), "interactions": log})
    pipeline = beam.Pipeline("FnApiRunner")
    newest, rejects = pipeline | ReadNewest(dataset, tmp_path, KEEP)
    kept = newest | beam.Map(
        lambda found: (found[0], found[1][0], [item for _, item in found[1][1]])
    )
    expected = [
        (
            f"u{u}".encode(),
            100,
            [f"i{n}".encode() for n in range(1000) if n % 5 == u and n % 2][-3:],
        )
        for u in range(5)
    ]
    assert_that(kept, equal_to(expected))
    assert_that(rejects | beam.combiners.Count.Globally(), equal_to([1]), "One")
    result = pipeline.commands.run()
    result.wait_until_finish()
    counted = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
    assert (
        counted["events"] == 500
        and counted["rows_not_kept"] == 500
        and counted["rows_rejected"] == 1
    )
