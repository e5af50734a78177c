"""Splits of users: fixed for a user and a salt, with the shares of the settings."""

import dataclasses

import pytest

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from pipeline.transforms.split import assign_split, position


def test_positions_do_not_change():
    """Another hash would silently change the splits."""
    assert position(b"ann", "0") == 0.3620368396268958
    assert position(b"bob", "0") == 0.8319400103534715
    assert position(b"ann", "1") == 0.0804346616681979


def test_shares_of_the_splits():
    data = DataConfig(test_share=0.3, val_share=0.2)
    n = 20_000
    assigned = [assign_split(f"user-{number}".encode(), data) for number in range(n)]
    expected = {
        ("test", "cold"): 0.15,
        ("test", "warm"): 0.15,
        ("train", "warm"): 0.56,
        ("val", "warm"): 0.14,
    }
    assert set(assigned) == set(expected)
    for kind, share in expected.items():
        assert assigned.count(kind) / n == pytest.approx(share, abs=0.015)
    other = [
        assign_split(f"user-{i}".encode(), dataclasses.replace(data, salt="1")) for i in range(n)
    ]
    both = sum(a == b == ("test", "cold") for a, b in zip(assigned, other, strict=True))
    assert both / n == pytest.approx(0.15**2, abs=0.006)


def test_a_long_salt_is_refused():
    with pytest.raises(InputError, match="64 bytes"):
        position(b"ann", "x" * 65)
