"""Columns of events, held in memory and cut to the newest of every user."""

import numpy as np

_HELD = 64 << 20
_PLACE = ("time", "number", "offset")


class HeldEvents:
    """Events of any order as columns, of which only the newest `keep` of a user are kept.

    Args:
        keep: newest events kept.
        held: bytes from which on the events are cut, or given out where cutting frees too few.
    """

    def __init__(self, keep, held=_HELD):
        self._keep, self._held = keep, held
        self._columns, self._bytes = [], 0

    def add(self, users, items, times, number, offsets):
        """Adds events of one file; returns what must make room for them, as of `taken`.

        Args:
            users, items: Arrow arrays of binary [n]. times, offsets: int64 [n].
            number: of the file, of which `(number, offset)` is an event's place.
        """
        if len(times) == 0:
            return []
        place = {"time": times, "number": np.full_like(times, number), "offset": offsets}
        self._hold(user=users, item=items, **place, events=np.ones_like(times))
        if self._bytes <= self._held:
            return []
        newest, kept, counts = self._newest()
        # The oldest row that is left stands for those that are gone, too.
        events = np.ones(kept.sum(), np.int64)
        events[np.cumsum(kept) - kept] += counts - kept
        if sum(column.nbytes for column in (*newest.values(), events)) > self._held // 2:
            return _parts(newest, kept, counts)
        self._hold(**newest, events=events)
        return []

    def taken(self):
        """The `(user, (number of events, [(time, (number, offset), item)]))`, oldest first.

        They are accumulators of `NewestEvents`, and no longer held.
        """
        return _parts(*self._newest()) if self._columns else []

    def _hold(self, **columns):
        import pyarrow as pa

        self._columns.append(
            {name: pa.array(c) if isinstance(c, np.ndarray) else c for name, c in columns.items()}
        )
        self._bytes += sum(column.nbytes for column in columns.values())

    def _newest(self):
        """What was held: columns of the newest events, how many each user has, and had.

        A user's events lie together, oldest first.
        """
        import pyarrow as pa

        held, self._columns, self._bytes = self._columns, [], 0
        arrays = {name: pa.concat_arrays([columns[name] for columns in held]) for name in held[0]}
        events = np.asarray(arrays.pop("events"))
        coded = arrays["user"].dictionary_encode()
        codes = np.asarray(coded.indices)
        order = np.lexsort((*(np.asarray(arrays[name]) for name in reversed(_PLACE)), codes))
        rows = np.bincount(codes)
        ends = np.cumsum(rows)
        counts = np.add.reduceat(events[order], ends - rows)
        kept = np.minimum(rows, self._keep)
        order = order[np.arange(len(order)) >= np.repeat(ends - kept, rows)]
        return {name: array.take(pa.array(order)) for name, array in arrays.items()}, kept, counts


def _parts(newest, kept, counts):
    """What `_newest` gives, user by user, as of `taken`."""
    times, numbers, offsets = (np.asarray(newest[name]).tolist() for name in _PLACE)
    items = newest["item"].to_pylist()
    ends = np.cumsum(kept)
    users = newest["user"].take(ends - 1).to_pylist()
    start = 0
    for user, count, end in zip(users, counts.tolist(), ends.tolist(), strict=True):
        places = zip(numbers[start:end], offsets[start:end], strict=True)
        found = zip(times[start:end], places, items[start:end], strict=True)
        yield user, (count, list(found))
        start = end
