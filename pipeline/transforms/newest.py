"""Combines a user's events to the newest ones, without ever holding all of them."""

import heapq
from collections.abc import Iterable

import apache_beam as beam

from pipeline.transforms.elements import Event, NewestOfPart, TimedItem


class NewestEvents(beam.CombineFn):
    """Combines a user's events to (number of all events, the newest ones, oldest first).

    Input elements: (time, place, item id). Output: (number, [(time, item id)]). Events with equal
    times keep the order of the files.

    Args:
        keep: number of newest events that are kept.
    """

    def __init__(self, keep: int):
        super().__init__()
        self._keep = keep

    def create_accumulator(self) -> NewestOfPart:
        return 0, []

    def add_input(self, accumulator: NewestOfPart, event: Event) -> NewestOfPart:
        count, newest = accumulator
        if len(newest) < self._keep:
            heapq.heappush(newest, event)
        else:
            heapq.heappushpop(newest, event)
        return count + 1, newest

    def merge_accumulators(self, accumulators: Iterable[NewestOfPart]) -> NewestOfPart:
        count = 0
        newest: list[Event] = []
        for count_of_part, events in accumulators:
            count += count_of_part
            # A sorted list is a heap too.
            newest = sorted([*newest, *events])[-self._keep :]
        return count, newest

    def extract_output(self, accumulator: NewestOfPart) -> tuple[int, list[TimedItem]]:
        count, newest = accumulator
        return count, [(time, item) for time, _, item in sorted(newest)]


class OldestEvents(NewestEvents):
    """Combines a user's events to (number of all events, the oldest ones, oldest first).

    Input and output are those of `NewestEvents`. An accumulator holds mirrored events: what is the
    oldest event is the newest one there.

    Args:
        keep: number of oldest events that are kept.
    """

    def add_input(self, accumulator: NewestOfPart, event: Event) -> NewestOfPart:
        return super().add_input(accumulator, _mirrored(event))

    def extract_output(self, accumulator: NewestOfPart) -> tuple[int, list[TimedItem]]:
        count, oldest = accumulator
        return count, [(~time, item) for time, _, item in sorted(oldest, reverse=True)]


class MergeNewest(NewestEvents):
    """Combines parts of a user's events, each already cut to its newest ones.

    Input elements: accumulators of `NewestEvents`. Output: as `NewestEvents`.
    """

    def add_input(  # type: ignore[override]  # its elements are accumulators
        self, accumulator: NewestOfPart, part: NewestOfPart
    ) -> NewestOfPart:
        return self.merge_accumulators([accumulator, part])


def _mirrored(event: Event) -> Event:
    """Reverses the order of events; unlike the negative of a number, ~ is never too large."""
    time, (number, row), item = event
    return ~time, (~number, ~row), item
