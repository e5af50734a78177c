"""Runs the soak for half a minute, and checks that it notices wrong answers."""

import pytest

from benchmarks.soak import soak

pytestmark = pytest.mark.slow


def test_soak():
    summary = soak(0.5, pause=2.0)
    assert summary["lost"] == summary["wrong"] == 0, summary["first_failures"]
    callers = {"grpc warm", "grpc cold", "grpc serving_default", "asyncio warm", "rest warm"}
    callers |= {"grpc user_embedding", "grpc batch cold", "grpc without deadline"}
    assert callers <= set(summary["answered"])
    refused = {"bomb 400", "bomb 413", "closed early", "slow heads", "no message", "NOT_FOUND"}
    assert refused <= set(summary["refused"])
    assert summary["faults"]["swap"] >= 1 and summary["versions"] >= 2
    assert summary["megabytes"][1] <= summary["most_megabytes"]


def test_wrong_answers_are_noticed():
    summary = soak(0.05, pause=1.0, expect_other_model=True)
    assert summary["wrong"] > 10
