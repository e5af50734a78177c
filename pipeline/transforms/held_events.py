"""Holds columns of events in memory, cut to the newest events of every user."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipeline.transforms.elements import NewestOfPart

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_BYTES = 64 << 20
_ORDER = ("time", "number", "offset")


class HeldEvents:
    """Holds events of any order as columns, and keeps only the newest ones of a user.

    Args:
        keep: number of newest events of a user that are kept.
        max_bytes: when the events take more memory, they are cut to the newest ones, or given out
            if that frees less than half of it.
    """

    def __init__(self, keep: int, max_bytes: int = _MAX_BYTES):
        self._keep, self._max_bytes = keep, max_bytes
        self._columns: list[dict[str, pa.Array]] = []
        self._bytes = 0

    def add(
        self,
        users: "pa.Array",
        items: "pa.Array",
        times: np.ndarray,
        number: int,
        offsets: np.ndarray,
    ) -> Iterable[tuple[bytes, NewestOfPart]]:
        """Adds events of one file.

        Args:
            users: binary Arrow array [n] of user ids.
            items: binary Arrow array [n] of item ids.
            times: int64 [n].
            number: number of the file.
            offsets: int64 [n]; `(number, offset)` is the place of an event.

        Returns:
            What has to leave memory for them, in the form of `take_all`; usually nothing.
        """
        if len(times) == 0:
            return []
        place = {"time": times, "number": np.full_like(times, number), "offset": offsets}
        self._hold(user=users, item=items, **place, events=np.ones_like(times))
        if self._bytes <= self._max_bytes:
            return []
        newest, sizes, counts = self._newest()
        # The oldest row that is kept also stands for the rows that are dropped.
        events = np.ones(sizes.sum(), np.int64)
        events[np.cumsum(sizes) - sizes] += counts - sizes
        if sum(column.nbytes for column in (*newest.values(), events)) > self._max_bytes // 2:
            return _parts(newest, sizes, counts)
        self._hold(**newest, events=events)
        return []

    def take_all(self) -> Iterable[tuple[bytes, NewestOfPart]]:
        """Yields `(user id, (number of events, newest events))` and holds nothing afterwards.

        The second part is an accumulator of `NewestEvents`, with its events oldest first.
        """
        return _parts(*self._newest()) if self._columns else []

    def _hold(self, **columns):
        import pyarrow as pa

        self._columns.append(
            {name: pa.array(c) if isinstance(c, np.ndarray) else c for name, c in columns.items()}
        )
        self._bytes += sum(column.nbytes for column in columns.values())

    def _newest(self):
        """Empties the memory and cuts what it held to the newest events of every user.

        Returns:
            Columns of the newest events, ordered by user and oldest first; int [users] of the
            events that each user keeps; int [users] of the events that each user had.
        """
        import pyarrow as pa

        held, self._columns, self._bytes = self._columns, [], 0
        arrays = {name: pa.concat_arrays([columns[name] for columns in held]) for name in held[0]}
        events = np.asarray(arrays.pop("events"))
        encoded = arrays["user"].dictionary_encode()
        codes = np.asarray(encoded.indices)
        order = np.lexsort((*(np.asarray(arrays[name]) for name in reversed(_ORDER)), codes))
        rows = np.bincount(codes)
        ends = np.cumsum(rows)
        counts = np.add.reduceat(events[order], ends - rows)
        sizes = np.minimum(rows, self._keep)
        order = order[np.arange(len(order)) >= np.repeat(ends - sizes, rows)]
        return {name: array.take(pa.array(order)) for name, array in arrays.items()}, sizes, counts


def _parts(
    newest: "dict[str, pa.Array]", sizes: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[bytes, NewestOfPart]]:
    """Splits the columns of `_newest` by user."""
    times, numbers, offsets = (np.asarray(newest[name]).tolist() for name in _ORDER)
    items = newest["item"].to_pylist()
    ends = np.cumsum(sizes)
    users = newest["user"].take(ends - 1).to_pylist()
    start = 0
    for user, count, end in zip(users, counts.tolist(), ends.tolist(), strict=True):
        places = zip(numbers[start:end], offsets[start:end], strict=True)
        events = zip(times[start:end], places, items[start:end], strict=True)
        yield user, (count, list(events))
        start = end
