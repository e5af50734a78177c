"""Tests how `cmclrec recommend many` reads its lines: any bytes, in bounded memory."""

import io
import json
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from cmclrec_tf.errors import InputError
from serving.commands import user_lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(["user_id", "history", "exclude", "age", "b64"]) | st.text(max_size=3)
LINES = st.one_of(
    st.dictionaries(KEYS, JSON).map(lambda user: json.dumps(user).encode()),
    st.tuples(st.dictionaries(KEYS, JSON), st.integers(0, 40), st.binary(max_size=3)).map(
        lambda parts: json.dumps(parts[0]).encode()[: parts[1]] + parts[2]
    ),
    st.sampled_from([b"{", b'{"a":', b'"\\ud800"', b"\xef\xbb\xbf{}", b"-", b"1e999"]),
    st.binary(max_size=20),
).map(lambda line: line.replace(b"\n", b" "))


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=6), st.booleans())
def test_every_line_gives_one_user_or_one_error(lines, ends):
    """A line means the same whatever the other lines are, and all output is JSON."""
    file = io.BytesIO(b"\n".join(lines) + b"\n" * ends)
    expected = [user_lines.user_line(line, number) for number, line in enumerate(lines, 1)]
    if not ends and not lines[-1]:
        expected.pop()  # an empty line has a line end
    read = [line for group in user_lines.groups(file) for line in group]
    assert [(key, str(user)) for key, user in read] == [(key, str(user)) for key, user in expected]
    for key, user in read:
        assert isinstance(user, (dict, InputError))
        error = user if isinstance(user, InputError) else InputError("user", "rule", "Fix.")
        json.loads(user_lines.answer_line(error, **key).encode("ascii"))


def test_long_lines_cost_no_memory():
    file = io.BytesIO(b"{}\n" + b"[" * 20_000_000 + b"\n{}\n" + b" " * user_lines.MAX_LINE_BYTES)
    tracemalloc.start()
    try:
        groups = list(user_lines.groups(file))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (good, long, other, last) = [str(user) for group in groups for _, user in group]
    assert (good, other) == ("{}", "{}") and "at most 1048576 bytes" in long
    assert "JSON object" in last
    assert most < 8 * 2**20


def test_groups_are_bounded():
    lines = io.BytesIO(b'{"history": []}\n' * 5000 + (b'"' + b"x" * 2**20 + b'"\n') * 9)
    assert [len(group) for group in user_lines.groups(lines)] == [2048, 2048, 908, 4, 1]
