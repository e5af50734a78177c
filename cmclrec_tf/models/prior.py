"""A popularity prior in the scores; `prior_fit` fits its coefficients on validation users."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.models.expert import FeatureExpert
from cmclrec_tf.types import Features, FloatBD, IdsB, KerasConfig, Tensor

SEGMENTS = ("cold", "warm")
NEUTRAL = (1.0, 0.0, 0.0, 0.0)


@keras.saving.register_keras_serializable("cmclrec_tf")
class PopularityPrior(keras.layers.Layer):
    """Adds the log of an item's popularity to its score.

    score(u, i) = a <g_u, e_i> + b log p_last(i) + c log p_all(i) + d <z_u, w_i>

    p_last counts the last item of every train user, p_all all of their events. <z_u, w_i> is the
    score of a `FeatureExpert`, if the model has one. The coefficients (a, b, c, d) of a user with
    n known items are those of cold users for n = 0, and approach those of warm users:
    (cold + n warm) / (1 + n). They are (1, 0, 0, 0), which changes nothing, until `fit_prior` sets
    others.

    The prior is part of the inner product: a user embedding [a g_u, b, c, d z_u] has 2 + H
    dimensions more than the state, where H = 0 without an expert, and the vector of an item is
    [e_i, log p_last(i), log p_all(i), w_i].

    Args:
        items: V.
        expert: the `FeatureExpert`, or its config; None: no expert.

    Example:
        >>> prior = PopularityPrior(items=6)
        >>> prior(ops.array([[0.5, 2.0]]), items=ops.array([3])).numpy().tolist()
        [[0.5, 2.0, 0.0, 0.0]]
    """

    def __init__(
        self, items: int, expert: FeatureExpert | KerasConfig | None = None, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.items = items
        self.expert = FeatureExpert(**expert) if isinstance(expert, dict) else expert
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

    def call(self, g: FloatBD, items: IdsB | None, features: Features | None = None) -> FloatBD:
        """Returns user embeddings float32 [B, D + 2 + H], or [B, D + 2] without features.

        Args:
            g: float [B, D], the users' states.
            items: int [B], the number of known items of each user; None if all have none.
            features: the users' features, for the expert; None if they are not known: d z_u = 0,
                and the embeddings end before it.
        """
        cold, warm = ops.split(ops.convert_to_tensor(self.coefficients), 2)
        rows, numbers = ops.shape(g)[0], len(NEUTRAL)
        if items is None:
            mixed = ops.broadcast_to(cold, (rows, numbers))
        else:
            share = 1.0 / (1.0 + ops.cast(items, "float32"))[:, None]  # of the cold coefficients
            mixed = share * cold + (1.0 - share) * warm
        a, b, c, d = ops.split(mixed, numbers, axis=1)
        parts = [a * ops.cast(g, "float32"), b, c]
        if self.expert is not None and features is not None:
            parts.append(d * self.expert(features, training=False))
        return ops.concatenate(parts, axis=1)

    def scores(self, weights: Tensor) -> Tensor:
        """Returns what the prior adds to scores, float32 [..., V].

        Args:
            weights: float32 [..., 2 + H], the last columns of user embeddings, or [..., 2].
        """
        # Product by product: one for all would copy the vectors of all items first.
        total, start = 0.0, 0
        for variable in self.item_variables:
            if start == weights.shape[-1]:
                break  # the users' features are not known: the expert's vectors need no read
            vectors = ops.convert_to_tensor(variable)
            end = start + vectors.shape[1]
            total += ops.matmul(weights[..., start:end], ops.transpose(vectors))
            start = end
        return total

    @property
    def item_variables(self) -> list[keras.Variable]:
        """Variables whose columns are the last ones of the item vectors, 2 + H."""
        return [self.log_popularity, *([self.expert.vectors] if self.expert else [])]

    def get_config(self) -> KerasConfig:
        expert = self.expert.get_config() if self.expert else None
        return {**super().get_config(), "items": self.items, "expert": expert}
