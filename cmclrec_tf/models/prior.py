"""A popularity prior in the scores; `prior_fit` fits its coefficients on validation users."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.types import FloatBD, IdsB, KerasConfig, Tensor

SEGMENTS = ("cold", "warm")
NEUTRAL = (1.0, 0.0, 0.0)


@keras.saving.register_keras_serializable("cmclrec_tf")
class PopularityPrior(keras.layers.Layer):
    """Adds the log of an item's popularity to its score.

    score(u, i) = a <g_u, e_i> + b log p_last(i) + c log p_all(i)

    p_last counts the last item of every train user, p_all all of their events. The coefficients
    (a, b, c) of a user with n known items are those of cold users for n = 0, and approach those of
    warm users: (cold + n warm) / (1 + n). They are (1, 0, 0), which changes nothing, until
    `fit_prior` sets others.

    The prior is part of the inner product: a user embedding [a g_u, b, c] has two dimensions more
    than the state, and the vector of an item is [e_i, log p_last(i), log p_all(i)].

    Args:
        items: V.

    Example:
        >>> prior = PopularityPrior(items=6)
        >>> prior(ops.array([[0.5, 2.0]]), items=ops.array([3])).numpy().tolist()
        [[0.5, 2.0, 0.0, 0.0]]
    """

    def __init__(self, items: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.items = items
        # In float32 under any policy: half precision would round the logs of rare items.
        self.log_popularity = self.add_weight(
            shape=(self.items, 2),
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="log_popularity",
        )
        self.coefficients = self.add_weight(
            shape=(len(SEGMENTS), len(NEUTRAL)),
            initializer=lambda shape, dtype: ops.broadcast_to(ops.array(NEUTRAL, dtype), shape),
            trainable=False,
            autocast=False,
            name="coefficients",
        )

    def call(self, g: FloatBD, items: IdsB) -> FloatBD:
        """Returns user embeddings float32 [B, D + 2].

        Args:
            g: float [B, D], the users' states.
            items: int [B], the number of known items of each user.
        """
        share = 1.0 / (1.0 + ops.cast(items, "float32"))[:, None]  # of the cold coefficients
        cold, warm = ops.split(ops.convert_to_tensor(self.coefficients), 2)
        scale, *weights = ops.split(share * cold + (1.0 - share) * warm, 3, axis=1)
        return ops.concatenate([scale * ops.cast(g, "float32"), *weights], axis=1)

    def scores(self, weights: Tensor) -> Tensor:
        """Returns b log p_last + c log p_all for weights (b, c) [..., 2], as float32 [..., V]."""
        return ops.matmul(weights, ops.transpose(ops.convert_to_tensor(self.log_popularity)))

    def get_config(self) -> KerasConfig:
        return {**super().get_config(), "items": self.items}
