"""Implements MCLRec: Qin et al., Meta-optimized Contrastive Learning for Sequential Recommendation,
SIGIR 2023."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.backbones.base import blank, register
from cmclrec_tf.backbones.sasrec import SASRec
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.losses.contrastive_regularisation import (
    contrastive_regularisation_rows,
    has_negative,
)
from cmclrec_tf.losses.info_nce import info_nce_rows
from cmclrec_tf.types import BoolBL, FloatBD, FloatBLD, FloatND, IdsBL, KerasConfig, Scalar

STOCHASTIC, LEARNED, REGULARISATION = 0.1, 0.1, 0.1  # lambda, beta, gamma
TEMPERATURE = 0.1


@register("mclrec")
class MCLRec(SASRec):
    """SASRec with two contrastive losses: between random views, and between learned views.

    Two random views (crop, mask, reorder) of a history are encoded as h1, h2. Two small networks,
    the augmenters, turn them into z1 = w1(h1), z2 = w2(h2). With C = InfoNCE,

        aux = lambda C(h1, h2) + beta (C(z1, z2) + C(h1, z2) + C(h2, z1)) + gamma R.

    R, the contrastive regularisation, trains only the augmenters. The paper updates encoder and
    augmenters in turn; here both are updated in one step.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = MCLRec(5, ModelConfig(width=8, heads=2))
        >>> x, mask = ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")
        >>> ops.shape(backbone(x, mask)), float(backbone.auxiliary_loss(x, mask)) > 0
        ((3, 5, 8), True)
    """

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(length, config, **kwargs)
        width = self.config.width
        self.mask_vector = self.add_weight(
            shape=(width,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vector",
        )
        self.augmenters = [self._augmenter(width, f"augmenter_{i}") for i in (1, 2)]
        self.seed = keras.random.SeedGenerator()

    def _augmenter(self, width: int, name: str) -> keras.Sequential:
        layers = [Dense(width, "relu"), Dense(width)]
        augmenter = keras.Sequential(layers, name=name)
        augmenter.build((None, width))  # `call` does not use it, so it would stay without weights
        return augmenter

    def auxiliary_loss(self, x: FloatBLD, mask: BoolBL) -> Scalar:
        """Returns aux for histories x [B, L, D], mask [B, L]; an empty history does not count.

        The users of all replicas are negatives, and the result is the replica's share.
        """
        (x1, mask1), (x2, mask2) = self.views(x, mask)
        g = self.state(ops.concatenate([x1, x2]), ops.concatenate([mask1, mask2]), training=True)
        h = ops.split(g, 2)  # 2 x [B, D]
        z = [augmenter(view) for augmenter, view in zip(self.augmenters, h, strict=True)]
        has_history = ops.cast(ops.any(mask, axis=1), "float32")
        all_weights = replicas.gather(has_history)  # [N], over all replicas
        positive = replicas.same_row(ops.shape(h[0])[0], ops.shape(all_weights)[0])  # [B, N]

        def contrast(view1: FloatBD, view2: FloatBD) -> Scalar:
            rows = info_nce_rows(
                view1, _gathered(view2), TEMPERATURE, positive, all_weights=all_weights
            )
            return replicas.mean(rows, has_history)

        def regularisation(view1: FloatBD, view2: FloatBD) -> Scalar:
            rows = contrastive_regularisation_rows(view1, _gathered(view2), positive, all_weights)
            return replicas.mean(rows, has_history * has_negative(positive, all_weights))

        learned = contrast(z[0], z[1]) + contrast(h[0], z[1]) + contrast(h[1], z[0])
        h = [ops.stop_gradient(view) for view in h]
        z = [augmenter(view) for augmenter, view in zip(self.augmenters, h, strict=True)]
        pairs = [(z[0], z[1]), (h[0], z[1]), (h[1], z[0])]
        return (
            STOCHASTIC * contrast(*ops.split(g, 2))
            + LEARNED * learned
            + REGULARISATION * sum(regularisation(*pair) for pair in pairs)
        )

    def views(
        self, x: FloatBLD, mask: BoolBL
    ) -> tuple[tuple[FloatBLD, BoolBL], tuple[FloatBLD, BoolBL]]:
        """Returns two random views of histories x [B, L, D], each with its mask.

        Hidden items are replaced by `mask_vector`.
        """
        x = blank(ops.cast(x, self.compute_dtype), mask)
        n = ops.shape(x)[1]
        # `augment` moves ids: here the positions of the items serve as ids, and 0 is padding.
        positions = ops.where(mask, ops.arange(1, n + 1)[None], 0)
        first, second = augment.history_views(positions, self.seed)
        return self._view(x, *first), self._view(x, *second)

    def _view(self, x: FloatBLD, positions: IdsBL, hidden: BoolBL) -> tuple[FloatBLD, BoolBL]:
        selected = ops.one_hot(positions - 1, ops.shape(x)[1], dtype=x.dtype)  # [B, L, L]
        moved = ops.matmul(selected, x)  # [B, L, D]
        moved = ops.where(hidden[:, :, None], ops.cast(self.mask_vector, x.dtype), moved)
        return moved, positions > 0


def _gathered(view: FloatBD) -> FloatND:
    """Returns the view's rows of all replicas, in float32: the sum of their gradients needs it."""
    return replicas.gather(ops.cast(view, "float32"))
