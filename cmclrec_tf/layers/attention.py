"""Multi-head self-attention over histories."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import MASKED_SCORE, attention_mask, newest_positions
from cmclrec_tf.types import BoolBN, FloatBND, KerasConfig


@keras.saving.register_keras_serializable("cmclrec_tf")
class MultiHeadAttention(keras.layers.Layer):
    """y = W_o concat_h(softmax(Q_h K_h^T / sqrt(d)) V_h), d = D / H.

    Each position reads the positions that it may see, weighted by how well they match it. One
    matrix product makes Q, K and V; heads are slices of it, so no tensor of rank four is ever
    transposed. The softmax runs in float32, since a sum of float16 exponentials can overflow. A
    row that may see nothing gets the average over all positions, which is finite; the caller
    blanks it.

    Args:
        width: D.
        heads: H, a divisor of D.
        dropout: dropout rate of the attention weights.
        causal: whether a position sees only itself and older ones.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.2.

    Example:
        >>> from keras import ops
        >>> attention = MultiHeadAttention(width=8, heads=2)
        >>> ops.shape(attention(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, causal: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.width, self.heads, self.rate, self.causal = width, heads, dropout, causal
        self.project = Dense(3 * width, name="project")
        self.dropout = keras.layers.Dropout(dropout)
        self.out = Dense(width, name="out")

    def call(
        self,
        x: FloatBND,
        mask: BoolBN,
        training: bool | None = None,
        newest: int | None = None,
    ) -> FloatBND:
        """Returns what each position reads: [B, N, D].

        Args:
            x: float [B, N, D].
            mask: bool [B, N], True where a position is real.
            training: whether dropout is on.
            newest: computes only this many newest positions, [B, newest, D].
        """
        queries, keys, values = split_heads(self.project(x), 3, self.heads)  # 3 x H x [B, N, d]
        queries = [newest_positions(query, newest) for query in queries]
        allowed = attention_mask(ops.shape(x)[1], mask, self.causal)
        penalty = ops.where(newest_positions(allowed, newest), 0.0, MASKED_SCORE)
        scale = (self.width // self.heads) ** -0.5
        heads = []
        for query, key, value in zip(queries, keys, values, strict=True):
            logits = ops.matmul(query * scale, ops.transpose(key, (0, 2, 1)))  # [B, newest, N]
            alpha = ops.softmax(ops.cast(logits, "float32") + penalty, axis=-1)
            alpha = self.dropout(ops.cast(alpha, value.dtype), training=training)
            heads.append(ops.matmul(alpha, value))  # [B, newest, d]
        return self.out(ops.concatenate(heads, axis=-1))

    def get_config(self) -> KerasConfig:
        return {
            **super().get_config(),
            "width": self.width,
            "heads": self.heads,
            "dropout": self.rate,
            "causal": self.causal,
        }


def split_heads(x: FloatBND, parts: int, heads: int) -> list[list[FloatBND]]:
    """Splits a joint projection into its parts, and each part into heads.

    Args:
        x: float [B, N, parts * H * d].
        parts: how many projections x holds, e.g. 3 for queries, keys and values.
        heads: H.

    Returns:
        One list of H tensors [B, N, d] for each part.

    Example:
        >>> from keras import ops
        >>> queries, keys, values = split_heads(ops.ones((2, 5, 24)), parts=3, heads=2)
        >>> len(queries), ops.shape(queries[0])
        (2, (2, 5, 4))
    """
    slices = ops.split(x, parts * heads, axis=-1)
    return [slices[part * heads : (part + 1) * heads] for part in range(parts)]
