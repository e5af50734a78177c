"""Multi-head attention of a history to itself, in few operations."""

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import MASKED_SCORE, attention_mask, newest_positions


@keras.saving.register_keras_serializable("cmclrec_tf")
class MultiHeadAttention(keras.layers.Layer):
    """Self-attention: y = out(concat_h softmax(Q_h K_h' / sqrt(d)) V_h), d = D / H.

    Q, K and V come from one matrix product; heads are slices of it, so that nothing of rank four
    is ever transposed. The softmax runs in float32: the sum of a row of float16 exponentials can
    overflow. A row that may see nothing averages over everything, which is finite; callers
    blank it.

    Args:
        width: D. heads: H; they divide D. dropout: of the attention weights.
        causal: whether a position sees only itself and older ones.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.2.
    """

    def __init__(self, width, heads, dropout=0.0, causal=True, **kwargs):
        super().__init__(**kwargs)
        self.width, self.heads, self.rate, self.causal = width, heads, dropout, causal
        self.project = Dense(3 * width, name="project")
        self.dropout = keras.layers.Dropout(dropout)
        self.out = Dense(width, name="out")

    def call(self, x, mask, training=None, newest=None):
        """x [B, n, D], mask bool [B, n] -> [B, n, D], or [B, newest, D] of the newest positions."""
        queries, keys, values = split_heads(self.project(x), 3, self.heads)  # 3 x H x [B, n, d]
        queries = [newest_positions(q, newest) for q in queries]
        allowed = newest_positions(attention_mask(ops.shape(x)[1], mask, self.causal), newest)
        hidden = ops.where(allowed, 0.0, MASKED_SCORE)  # [B, n or newest or 1, n]
        scale = (self.width // self.heads) ** -0.5
        heads = []
        for q, k, v in zip(queries, keys, values, strict=True):
            logits = ops.matmul(q * scale, ops.transpose(k, (0, 2, 1)))  # [B, n or newest, n]
            alpha = ops.softmax(ops.cast(logits, "float32") + hidden, axis=-1)
            alpha = self.dropout(ops.cast(alpha, v.dtype), training=training)
            heads.append(ops.matmul(alpha, v))  # [B, n or newest, d]
        return self.out(ops.concatenate(heads, axis=-1))

    def get_config(self):
        own = {"width": self.width, "heads": self.heads, "dropout": self.rate}
        return {**super().get_config(), **own, "causal": self.causal}


def split_heads(x, parts, heads):
    """x [B, n, parts * H * d] -> `parts` lists of H tensors [B, n, d]."""
    slices = ops.split(x, parts * heads, axis=-1)
    return [slices[part * heads : (part + 1) * heads] for part in range(parts)]
