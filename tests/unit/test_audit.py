"""The advisories of `make audit`, and their table in SECURITY.md."""

import pathlib

import pytest

from tests import audit

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("version", "fixed", "since", "expected"),
    [
        ("3.12.0", ["3.12.1", "3.13.2"], "0", True),
        ("3.12.4", ["3.12.1", "3.13.2"], "0", False),
        ("3.13.1", ["3.12.1", "3.13.2"], "0", True),
        ("3.15.1", ["3.12.1", "3.13.2"], "0", False),
        ("10.0.1", ["14.0.1"], "0", True),
        ("10.0.1", ["23.0.1"], "15.0.0", False),
        ("18.1.0", ["23.0.1"], "15.0.0", True),
    ],
)
def test_versions_with_the_fault(version, fixed, since, expected):
    assert audit.applies(version, fixed, since) is expected


def test_the_table_of_security_is_that_of_the_locks():
    table = list(audit.rows())
    assert table
    text = (ROOT / "SECURITY.md").read_text()
    for row in table:
        assert row in text, "SECURITY.md must hold the output of `make audit`"
