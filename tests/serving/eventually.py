"""Waits for a condition that another thread fulfils."""

import time


def eventually(condition, seconds=20):
    """Waits until `condition()` is true; fails if it is not within some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
