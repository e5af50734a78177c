"""Waiting for what another thread is about to do."""

import time


def eventually(wanted, seconds=20):
    """Waits until `wanted()` is true; fails when it never is."""
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
