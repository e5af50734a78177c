"""Drops repeated events."""

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.typehints.decorators import no_annotations

from pipeline.transforms import counters


class DropDuplicates(beam.PTransform):
    """Keeps one of several events with equal user, item and time: the first one in the files.

    Input elements: (user id, (time, place, item id)). Output elements: the same, without
    duplicates. The number of dropped events is counted.

    It is a combiner, so no worker holds all duplicates of one event at once.
    """

    # Beam takes annotations for type checks of its own, which change how it encodes elements.
    @no_annotations
    def expand(self, events: beam.PCollection) -> beam.PCollection:
        return (
            events
            | "Key" >> beam.MapTuple(_by_event)
            | "First" >> beam.CombinePerKey(_FirstPlace())
            | "Event" >> beam.FlatMapTuple(_first_event)
        )


class _FirstPlace(beam.CombineFn):
    """Combines places to (the first place, the number of places)."""

    def create_accumulator(self):
        return None, 0

    def add_input(self, accumulator, place):
        first, count = accumulator
        return (place if first is None else min(first, place)), count + 1

    def merge_accumulators(self, accumulators):
        pairs = [pair for pair in accumulators if pair[1]]
        return min((first for first, _ in pairs), default=None), sum(count for _, count in pairs)

    def extract_output(self, accumulator):
        return accumulator


def _by_event(user, event):
    time, place, item = event
    return (user, item, time), place


def _first_event(key, combined):
    (user, item, time), (place, count) = key, combined
    Metrics.counter(counters.NAMESPACE, counters.DUPLICATES).inc(count - 1)
    yield user, (time, place, item)
