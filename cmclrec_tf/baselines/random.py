"""Floor that recommends random items."""

from typing import TYPE_CHECKING

import numpy as np

from cmclrec_tf.models import ranking
from cmclrec_tf.types import Batch, IdsBK

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset


class Random:
    """Recommends random items.

    A user's list depends only on the seed and the user, not on the batch.

    Args:
        dataset: `PreparedDataset`; only its number of items is used.
        seed: seeds the lists.
        hides_history: whether items of a warm user's history are left out of the list.

    Example:
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> batch = next(iter(data.batches("test", 4)))
        >>> Random(data).recommend(batch, k=5).shape
        TensorShape([4, 5])
    """

    def __init__(
        self, dataset: "PreparedDataset", seed: int = 0, hides_history: bool = True
    ) -> None:
        self.items, self.seed, self.hides_history = dataset.schema.items, seed, hides_history

    def recommend(self, batch: Batch, k: int) -> IdsBK:
        """Returns ids [B, K] in random order."""
        keys = np.asarray(batch["user_key"])
        scores = [np.random.default_rng([self.seed, key]).random(self.items) for key in keys]
        return ranking.recommend(np.stack(scores).astype(np.float32), batch, k, self.hides_history)
