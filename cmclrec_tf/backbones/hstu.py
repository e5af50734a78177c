"""Implements HSTU: Zhai et al., Actions Speak Louder than Words, ICML 2024."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.attention import split_heads
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import attention_mask
from cmclrec_tf.layers.transformer_block import Positions
from cmclrec_tf.types import (
    BoolBL,
    BoolBN,
    FloatBD,
    FloatBLD,
    FloatBND,
    IdsBNN,
    KerasConfig,
    TimesBN,
)

# Buckets of log time: two for each doubling of a 64-bit number.
AGES = 128


@register("hstu")
class HSTU(Backbone):
    """Pointwise attention units over the history, without softmax and feed-forward layers.

    The paper's attention bias has a part for the distance of two items, and a part for the time
    between them. The second part needs `model.times`; without it, or where the caller knows no
    times, only the first remains.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = HSTU(5, ModelConfig(width=8, heads=2))
        >>> ops.shape(backbone(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    reads_times = True

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(length, config, **kwargs)
        width, heads, dropout = self.config.width, self.config.heads, self.config.dropout
        self.positions = Positions(length, width)
        self.dropout = keras.layers.Dropout(dropout)
        ages = AGES if self.config.times else 0
        self.blocks = [
            HSTUBlock(length, width, heads, dropout, ages) for _ in range(self.config.blocks)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def call(
        self,
        x: FloatBLD,
        mask: BoolBL,
        training: bool | None = None,
        times: TimesBN | None = None,
    ) -> FloatBLD:
        """Returns G [B, L, D] for x [B, L, D], mask [B, L] and times int64 [B, L + 1].

        At position t, the time that counts is that of item t+1, and at L-1 that of the request:
        when an item is asked for is known before it is.
        """
        x = blank(self.dropout(self.positions(x), training=training), mask)
        ages = None if times is None else age_buckets(times)
        for block in self.blocks:
            x = block(x, mask, training=training, ages=ages)
        return blank(self.norm(x), mask)

    def state(
        self,
        x: FloatBLD,
        mask: BoolBL,
        training: bool | None = None,
        times: TimesBN | None = None,
    ) -> FloatBD:
        return self(x, mask, training=training, times=times)[:, -1]


def age_buckets(times: TimesBN) -> IdsBNN:
    """Returns how old each item is when the next one is asked for, in buckets of log time.

    The bucket of row i, column j is floor(2 log2(1 + times[i+1] - times[j])), at most AGES - 1: two
    buckets for each doubling, in any unit of time.

    Args:
        times: int64 [B, N + 1].

    Returns:
        int32 [B, N, N]; of meaning where j <= i.

    Example:
        >>> from keras import ops
        >>> age_buckets(ops.array([[10, 11, 17]]))[0].numpy().tolist()
        [[2, 0], [6, 5]]
    """
    age = times[:, 1:, None] - times[:, None, :-1]
    age = ops.cast(ops.maximum(age, 0), "float32")
    return ops.cast(ops.minimum(2 * ops.log2(1 + age), AGES - 1), "int32")


@keras.saving.register_keras_serializable("cmclrec_tf")
class HSTUBlock(keras.layers.Layer):
    """Eqs. (1)-(3) of the paper, with pre-norm and a residual around them.

    U, V, Q, K = silu(f1(norm(x))); A_ij = silu(Q_i K_j^T + r_{i-j}) / L for real j <= i, else 0;
    y = x + f2(norm(A V) * U). With ages, the bias is r_{i-j} + s_b of the bucket b of the age.

    The sum is divided by the longest length L, not by the number of items seen: how often a user
    showed an interest counts, which a softmax would hide.

    Args:
        length: L.
        width: D.
        heads: attention heads, a divisor of D.
        dropout: dropout rate of the gated states.
        ages: number of buckets of ages; 0 has no bias for them.

    Example:
        >>> from keras import ops
        >>> block = HSTUBlock(length=5, width=8, heads=2)
        >>> ops.shape(block(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(
        self,
        length: int,
        width: int,
        heads: int,
        dropout: float = 0.0,
        ages: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.length, self.width, self.heads, self.rate = length, width, heads, dropout
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.project = Dense(4 * width, activation="silu", name="project")
        self.attended_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.dropout = keras.layers.Dropout(dropout)
        self.out = Dense(width, name="out")
        self.distance = self._biases(length, "distance")
        self.ages = ages
        self.age = self._biases(ages, "age") if ages else None

    def _biases(self, count: int, name: str) -> keras.Variable:
        random = keras.initializers.RandomNormal(stddev=0.02)
        return self.add_weight(shape=(count,), initializer=random, name=name)

    def call(
        self,
        x: FloatBND,
        mask: BoolBN,
        training: bool | None = None,
        ages: IdsBNN | None = None,
    ) -> FloatBND:
        """Returns y [B, N, D] for N <= L; zeros at padding.

        Args:
            x: float [B, N, D].
            mask: bool [B, N].
            training: as in Keras.
            ages: int [B, N, N], from `age_buckets`; None if no times are known.
        """
        n = ops.shape(x)[1]
        u, v, q, k = split_heads(self.project(self.norm(x)), 4, self.heads)  # 4 x H x [B, N, d]
        behind = ops.arange(n)[:, None] - ops.arange(n)[None, :]  # i - j
        bias = ops.take(self.distance, ops.maximum(behind, 0), axis=0)[None]  # [1, N, N]
        if self.age is not None and ages is not None:
            bias = bias + ops.take(self.age, ages, axis=0)  # [B, N, N]
        allowed = attention_mask(n, mask, causal=True)  # [B, N, N]
        share = ops.cast(allowed, x.dtype) / self.length
        attended = [
            ops.matmul(ops.silu(ops.matmul(qh, ops.transpose(kh, (0, 2, 1))) + bias) * share, vh)
            for vh, qh, kh in zip(v, q, k, strict=True)
        ]
        gated = self.attended_norm(ops.concatenate(attended, axis=-1)) * ops.concatenate(u, axis=-1)
        return blank(x + self.out(self.dropout(gated, training=training)), mask)

    def get_config(self) -> KerasConfig:
        return {
            **super().get_config(),
            "length": self.length,
            "width": self.width,
            "heads": self.heads,
            "dropout": self.rate,
            "ages": self.ages,
        }
