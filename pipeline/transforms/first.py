"""Events without duplicates."""

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline.transforms import counters


class FirstOfEqual(beam.PTransform):
    """Of events with equal user, item and time keeps the one that stands first in the files.

    A combiner, so that no worker holds the duplicates of one event together.
    """

    def expand(self, events):
        return (
            events
            | "Key" >> beam.MapTuple(_keyed)
            | "First" >> beam.CombinePerKey(_Least())
            | "Event" >> beam.FlatMapTuple(_event)
        )


class _Least(beam.CombineFn):
    """The least place and the number of places."""

    def create_accumulator(self):
        return None, 0

    def add_input(self, accumulator, place):
        least, count = accumulator
        return (place if least is None else min(least, place)), count + 1

    def merge_accumulators(self, accumulators):
        found = [pair for pair in accumulators if pair[1]]
        return min((least for least, _ in found), default=None), sum(count for _, count in found)

    def extract_output(self, accumulator):
        return accumulator


def _keyed(user, event):
    time, place, item = event
    return (user, item, time), place


def _event(key, found):
    (user, item, time), (place, count) = key, found
    Metrics.counter(counters.NAMESPACE, counters.DUPLICATES).inc(count - 1)
    yield user, (time, place, item)
