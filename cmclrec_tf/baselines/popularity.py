"""Floor that recommends the same popular items to all users."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cmclrec_tf.data.event_times import Ints, timed_events
from cmclrec_tf.errors import InputError
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.models import ranking
from cmclrec_tf.schema import FIRST_ID, TRAIN
from cmclrec_tf.types import FloatBV, IdsBK, Users

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

# Share of the train events that are recent.
RECENT = 0.05


class Popularity:
    """Ranks items by their number of events in the train split.

    As a distribution over items, it adds half an event to each.

    Args:
        dataset: `PreparedDataset`; only its train split is read.
        events: `all` counts all events of the records (the newest `data.max_history` and the
            target), `last` only the last one of each user, `recent` only the newest `share` of all
            events, at least. A target counts at the time of the event before it.
        hides_history: whether items of a warm user's history are left out of the list.
        share: share of the events that are recent, in (0, 1]; events of equal times count alike.

    Raises:
        InputError: `events` or `share` is not one of these, or the records have no times.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> report = cm.evaluate(cm.Popularity(data), data, "test", ks=(5,))
        >>> report.rows["cold"]["jaccard@5"]  # all cold users get the same list
        1.0
    """

    has_logits = True

    def __init__(
        self,
        dataset: "PreparedDataset",
        events: str = "all",
        hides_history: bool = True,
        share: float = RECENT,
    ) -> None:
        if events not in ("all", "last", "recent"):
            rule = "it must be `all`, `last` or `recent`"
            raise InputError(f"events={events!r}", rule, "Choose one.")
        if not 0 < share <= 1:
            raise InputError(f"share={share!r}", "it must be in (0, 1]", "Correct it.")
        counts = np.zeros(dataset.schema.items, np.int64)
        for ids in _recent(dataset, share) if events == "recent" else _items(dataset, events):
            counts += np.bincount(ids, minlength=len(counts))
        self.scores, self.hides_history = counts.astype(np.float32), hides_history

    @property
    def log_counts(self) -> NDArray[np.float32]:
        """The log of the number of events of each id, with half an event more, float32 [V]."""
        return np.log(self.scores + 0.5)

    @property
    def log_shares(self) -> NDArray[np.float32]:
        """The log of each item's share of `log_counts`' events, float32 [V]; 0 for PAD and OOV."""
        logs, log_counts = np.zeros_like(self.log_counts), self.log_counts[FIRST_ID:]
        logs[FIRST_ID:] = log_counts - np.log(np.exp(log_counts).sum())
        return logs

    def logits(self, batch: Users) -> FloatBV:
        """Returns the log of the number of events of each item, for every row [B, V]."""
        ids = np.arange(len(self.scores))
        logits = np.where(ids >= FIRST_ID, self.log_counts, MASKED_SCORE)
        return ops.broadcast_to(logits, (batch["history"].shape[0], len(logits)))

    def recommend(self, batch: Users, k: int) -> IdsBK:
        """Returns ids [B, K], most popular first."""
        rows = batch["history"].shape[0]
        scores = ops.broadcast_to(self.scores, (rows, len(self.scores)))
        return ranking.recommend(scores, batch, k, self.hides_history)


def _items(dataset: "PreparedDataset", events: str) -> Iterator[Ints]:
    """Yields the ids of all events of the train users, or of the last one of each."""
    for batch in dataset.batches(TRAIN, 1024, shuffle=False):
        fields = [batch["target"]] if events == "last" else [batch["history"], batch["target"]]
        yield from (ids.numpy().ravel() for ids in fields)


def _recent(dataset: "PreparedDataset", share: float) -> Iterator[Ints]:
    """Yields the ids of the newest events of all train users together."""
    items, times = timed_events(dataset, TRAIN)
    number = max(1, round(share * len(times)))
    yield items[times >= np.partition(times, -number)[-number]]
