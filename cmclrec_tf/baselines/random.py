"""The floor under the floors: items drawn by lot."""

import numpy as np

from cmclrec_tf.models import ranking


class Random:
    """Recommends items drawn by lot, other ones for each user; items of a history are left out.

    A user's list is fixed by the seed and the user, whatever batch the user comes in.

    Args:
        dataset: `PreparedDataset`, of which only the number of items is used.
        seed: of the draw.
    """

    def __init__(self, dataset, seed=0):
        self.items, self.seed = dataset.schema.items, seed

    def recommend(self, batch, k):
        """batch -> ids [B, K], in random order."""
        keys = np.asarray(batch["user_key"])
        draws = [np.random.default_rng([self.seed, key]).random(self.items) for key in keys]
        return ranking.recommended(np.stack(draws).astype(np.float32), batch, k)
