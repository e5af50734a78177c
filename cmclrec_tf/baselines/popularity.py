"""Floor that recommends the same popular items to all users."""

from typing import TYPE_CHECKING

import numpy as np
from keras import ops

from cmclrec_tf.errors import InputError
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.models import ranking
from cmclrec_tf.schema import FIRST_ID, TRAIN
from cmclrec_tf.types import FloatBV, IdsBK, Users

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset


class Popularity:
    """Ranks items by their number of events in the train split.

    As a distribution over items, it adds half an event to each.

    Args:
        dataset: `PreparedDataset`; only its train split is read.
        events: `all` counts all events of the records (the newest `data.max_history` and the
            target), `last` only the last one of each user.
        hides_history: whether items of a warm user's history are left out of the list.

    Raises:
        InputError: `events` is neither `all` nor `last`.

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
        self, dataset: "PreparedDataset", events: str = "all", hides_history: bool = True
    ) -> None:
        if events not in ("all", "last"):
            raise InputError(f"events={events!r}", "it must be `all` or `last`", "Choose one.")
        counts = np.zeros(dataset.schema.items, np.int64)
        for batch in dataset.batches(TRAIN, 1024, shuffle=False):
            fields = [batch["target"]] if events == "last" else [batch["history"], batch["target"]]
            for ids in fields:
                counts += np.bincount(ids.numpy().ravel(), minlength=len(counts))
        self.scores, self.hides_history = counts.astype(np.float32), hides_history

    def logits(self, batch: Users) -> FloatBV:
        """Returns the log of the number of events of each item, for every row [B, V]."""
        ids = np.arange(len(self.scores))
        logits = np.where(ids >= FIRST_ID, np.log(self.scores + 0.5), MASKED_SCORE)
        return ops.broadcast_to(logits, (batch["history"].shape[0], len(logits)))

    def recommend(self, batch: Users, k: int) -> IdsBK:
        """Returns ids [B, K], most popular first."""
        rows = batch["history"].shape[0]
        scores = ops.broadcast_to(self.scores, (rows, len(self.scores)))
        return ranking.recommend(scores, batch, k, self.hides_history)
