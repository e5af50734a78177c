"""The newest events of a user, without ever holding the whole log of one."""

import heapq

import apache_beam as beam


class NewestEvents(beam.CombineFn):
    """Combines a user's events to `(number of all events, [(time, item)])`, oldest first.

    Given are tuples that sort by age: `(time, place, item)`; ties in time keep the file's order.
    What comes out are the newest `keep` of them.

    Args:
        keep: newest events kept.
    """

    def __init__(self, keep):
        super().__init__()
        self._keep = keep

    def create_accumulator(self):
        return 0, []

    def add_input(self, accumulator, event):
        count, newest = accumulator
        if len(newest) < self._keep:
            heapq.heappush(newest, event)
        else:
            heapq.heappushpop(newest, event)
        return count + 1, newest

    def merge_accumulators(self, accumulators):
        count, newest = 0, []
        for more, events in accumulators:
            count += more
            # Sorted, so a heap too.
            newest = sorted([*newest, *events])[-self._keep :]
        return count, newest

    def extract_output(self, accumulator):
        count, newest = accumulator
        return count, [(time, item) for time, _, item in sorted(newest)]


class MergedNewest(NewestEvents):
    """Combines accumulators of `NewestEvents`, each of a part of a user's events."""

    def add_input(self, accumulator, part):
        return self.merge_accumulators([accumulator, part])
