"""Implements SR-GNN: Wu et al., Session-based Recommendation with Graph Neural Networks, AAAI
2019."""

from typing import Any

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.config import ModelConfig
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import attention_mask
from cmclrec_tf.layers.session_graph import GatedPropagation, SessionGraph
from cmclrec_tf.types import BoolBL, FloatBLD, KerasConfig


@register("sr_gnn")
class SRGNN(Backbone):
    """A gated graph network on the graph of the history, with soft attention as readout.

    v = `blocks` steps of propagation from x; alpha_ti = q . sigmoid(W1 v_t + W2 v_i + c);
    s_t = mean over real i <= t of alpha_ti v_i; G_t = W3 [v_t, s_t].

    A backbone sees vectors and no ids, so the graph's nodes are positions, and positions with
    nearly the same vector are the same item (`SessionGraph`). A node keeps the state that it has
    in the graph of its own time, since later edges would leak the future into older positions.
    For the newest position and one step this is exactly the paper's graph.

    Simulated histories rarely repeat a vector. Their graph is then a chain: each position is
    linked to the one before. Where two vectors are nearly the same, their similarity counts. The
    same holds for histories whose vectors the mapper has changed by their context.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = SRGNN(5, ModelConfig(width=8))
        >>> ops.shape(backbone(ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")))
        (3, 5, 8)
    """

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(length, config, **kwargs)
        width = self.config.width
        self.graph = SessionGraph(name="graph")
        self.dropout = keras.layers.Dropout(self.config.dropout)
        self.propagation = GatedPropagation(width, name="propagation")
        # Narrower than D: the comparison of all pairs is the largest tensor here, [B, L, L, D/4].
        self.newest = Dense(max(1, width // 4), use_bias=False, name="w1")
        self.each = Dense(max(1, width // 4), name="w2")
        self.weight = Dense(1, use_bias=False, name="q")
        self.out = Dense(width, use_bias=False, name="w3")

    def call(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBLD:
        """Returns G [B, L, D] for x [B, L, D], mask [B, L]."""
        x = blank(x, mask)
        edges = self.graph(x, mask)
        v = self.dropout(x, training=training)
        for _ in range(self.config.blocks):
            v = self.propagation(v, *edges)
        return blank(self.out(ops.concatenate([v, self._session(v, mask)], axis=-1)), mask)

    def _session(self, v: FloatBLD, mask: BoolBL) -> FloatBLD:
        """Returns s [B, L, D]: soft attention of each position over the real ones up to it."""
        pairs = self.newest(v)[:, :, None] + self.each(v)[:, None, :]  # [B, t, i, D/4]
        alpha = ops.squeeze(self.weight(ops.sigmoid(pairs)), axis=-1)  # [B, t, i]
        visible = ops.cast(attention_mask(ops.shape(v)[1], mask, causal=True), v.dtype)
        count = ops.maximum(ops.sum(visible, axis=-1, keepdims=True), 1)
        return ops.matmul(alpha * (visible / count), v)
