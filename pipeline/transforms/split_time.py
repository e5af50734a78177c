"""Finds the time T that divides the events with `data.split: time`."""

from collections.abc import Iterable

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.typehints.decorators import no_annotations

from pipeline.transforms import counters

# A time of 64 bits is found in four passes over the times, each of which counts 2^16 numbers.
_DIGIT = 16
_SIGN = np.uint64(1 << 63)


class TimeOfShare(beam.PTransform):
    """Finds the time at or after which a share of the events lies, exactly.

    Input elements: (user id, (time, place, item id)). Output: one time, that of an event: at most
    `1 - share` of the events lie before it. Without events it is the lowest time.

    Args:
        share: the share, in (0, 1).
    """

    def __init__(self, share: float):
        super().__init__()
        self._share = share

    @no_annotations
    def expand(self, events: beam.PCollection) -> beam.PCollection:
        arrays = (
            events
            | "Time" >> beam.MapTuple(lambda user, event: event[0])
            | "Batch" >> beam.BatchElements(min_batch_size=1024, max_batch_size=1 << 16)
            | "Array" >> beam.Map(_unsigned)
        )
        one = events.pipeline | "One" >> beam.Create([None])
        state = one | "Start" >> beam.Map(lambda _: (0, None))
        for digits in range(4):
            counts = (
                arrays
                | f"Count{digits}" >> beam.Map(_count, digits, beam.pvalue.AsSingleton(state))
                | f"Sum{digits}" >> beam.CombineGlobally(_Sum())
            )
            state = one | f"Next{digits}" >> beam.Map(
                _next,
                beam.pvalue.AsSingleton(state),
                beam.pvalue.AsSingleton(counts),
                self._share,
            )
        return state | "Signed" >> beam.MapTuple(lambda prefix, rank: prefix - (1 << 63))


def report(time: int) -> int:
    """Stores T among the counters of the run, and returns it."""
    Metrics.distribution(counters.NAMESPACE, counters.SPLIT_TIME).update(time)
    return time


class _Sum(beam.CombineFn):
    def create_accumulator(self):
        return np.zeros(1 << _DIGIT, np.int64)

    def add_input(self, accumulator, counts):
        return accumulator + counts

    def merge_accumulators(self, accumulators):
        return sum(accumulators, self.create_accumulator())

    def extract_output(self, accumulator):
        return accumulator


def _unsigned(batch: Iterable[int]) -> np.ndarray:
    """Maps times to unsigned integers in the same order."""
    return np.asarray(batch, np.int64).view(np.uint64) ^ _SIGN


def _count(array, digits, state):
    """Counts the next digit of the numbers whose first digits are known; returns int [2^16]."""
    prefix, _ = state
    shift = np.uint64(64 - _DIGIT * (digits + 1))
    heads = array >> shift
    if digits:
        heads = heads[heads >> np.uint64(_DIGIT) == np.uint64(prefix)]
    return np.bincount(
        (heads & np.uint64((1 << _DIGIT) - 1)).astype(np.int64), minlength=1 << _DIGIT
    )


def _next(_, state, counts, share):
    """Returns (first digits of the time, its rank among the numbers that begin with them)."""
    prefix, rank = state
    total = int(counts.sum())
    if total == 0:
        return prefix << _DIGIT, 0
    if rank is None:
        rank = min(int((1 - share) * total), total - 1)
    ends = np.cumsum(counts)
    digit = int(np.searchsorted(ends, rank, side="right"))
    return (prefix << _DIGIT) | digit, rank - int(ends[digit] - counts[digit])
