"""MeLU (Lee et al., KDD 2019): adapts the last layers to each user by gradient steps."""

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from cmclrec_tf.baselines.base import Baseline
from cmclrec_tf.baselines.meta import Negatives, adapt, sampled_loss, spread_negatives
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.losses.sampled_next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding
from cmclrec_tf.types import (
    Batch,
    BoolB,
    Features,
    FloatB,
    FloatBD,
    FloatBN,
    FloatBV,
    IdsBL,
    IdsBN,
    Losses,
    Tensor,
)

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class MeLU(Baseline):
    """Model-agnostic meta-learning: theta_u = theta - alpha grad L(theta; history of u).

    A network scores an item from the embeddings of the user features and of the item. Its decision
    layers theta are adapted to the user's history (support set). The loss of the adapted layers on
    another item of the user (query set) trains theta and the embeddings, through the adaptation.
    The lists of a user without events come from theta itself.

    Difference from the paper: it predicts ratings; here both sets are ranked among sampled items.

    Source: Lee et al., MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation,
    KDD 2019, section 3.2 and algorithm 1.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = MeLU(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/query",)

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        width = self.config.model.width
        self.items = item_embedding(schema, width)
        self.user = Dense(width, name="user")
        self.shapes = ((2 * width, width), (width,), (width, width), (width,), (width, 1), (1,))
        self.decision = [
            self.add_weight(
                shape=shape,
                initializer="zeros" if len(shape) == 1 else "glorot_uniform",
                name=f"decision_{number}",
            )
            for number, shape in enumerate(self.shapes)
        ]

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> Tensor:
        """Returns states [B, S]: the user's embedding and decision layers, flat in one row."""
        user = self.user(self.flat_tokens(features, training))
        negatives = spread_negatives(self.config.baseline.negatives, self.schema.items)
        layers = self._adapt(user, history, negatives)
        flat = [
            ops.reshape(w, (-1, math.prod(s))) for w, s in zip(layers, self.shapes, strict=True)
        ]
        return ops.concatenate([user, *flat], axis=1)

    def score(self, states: Tensor) -> FloatBV:
        """Returns the scores [B, V] of all items for states [B, S]."""
        table = ops.convert_to_tensor(self.table)

        def score_one(state: Tensor) -> Tensor:
            user, layers = self._split(state[None])
            return _decide(layers, user, table[None])[0]

        return self.without_special(tf.map_fn(score_one, states, fn_output_signature=tf.float32))

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        context, positive = self.leave_one_out(batch, training)
        user = self.user(self.flat_tokens(batch["features"], training))
        negatives = sample_zipf(self.config.baseline.negatives, self.schema.items, self.seed)
        layers = self._adapt(user, context, negatives)
        query = self._loss(layers, user, positive[:, None], negatives, context)
        loss = ops.mean(query)
        return {"loss/query": loss, "loss": loss}

    def _adapt(self, user: FloatBD, history: IdsBL, negatives: Negatives) -> list[Tensor]:
        """Returns the decision layers of every user after gradient steps on the history."""
        rows, settings = ops.shape(user)[0], self.config.baseline
        layers = [ops.repeat(ops.convert_to_tensor(w)[None], rows, axis=0) for w in self.decision]
        return adapt(
            layers,
            lambda values: self._loss(values, user, history, negatives),
            settings.inner_steps,
            settings.inner_rate,
        )

    def _loss(
        self,
        layers: list[Tensor],
        user: FloatBD,
        items: IdsBN,
        negatives: Negatives,
        seen: IdsBN | None = None,
    ) -> FloatB:
        """Returns the mean `sampled_loss` [B] over the known ones of each user's items [B, N]."""
        item_scores = _decide(layers, user, self.items(items))
        negative_scores = _decide(layers, user, self.items(negatives[0])[None])
        return sampled_loss(item_scores, negative_scores, items, *negatives, seen)

    def _split(self, states: Tensor) -> tuple[FloatBD, list[Tensor]]:
        """Splits states [B, S] into the user embedding [B, D] and decision layers [B, ...]."""
        sizes = [math.prod(shape) for shape in self.shapes]
        user, *layers = tf.split(states, [self.config.model.width, *sizes], axis=1)
        return user, [
            tf.reshape(w, (-1, *shape)) for w, shape in zip(layers, self.shapes, strict=True)
        ]


def _decide(layers: list[Tensor], user: FloatBD, items: Tensor) -> FloatBN:
    """Returns scores [B, N] for layers [B, ...], user [B, D] and items [B or 1, N, D]."""
    w1, b1, w2, b2, w3, b3 = layers
    width = user.shape[1]
    h = tf.einsum("bd,bdh->bh", user, w1[:, :width])[:, None]
    h = tf.nn.relu(h + tf.matmul(items, w1[:, width:]) + b1[:, None])
    h = tf.nn.relu(tf.matmul(h, w2) + b2[:, None])
    return (tf.matmul(h, w3) + b3[:, None])[:, :, 0]
