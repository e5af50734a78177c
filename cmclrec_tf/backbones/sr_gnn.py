"""SR-GNN: Wu et al., Session-based Recommendation with Graph Neural Networks, AAAI 2019."""

import keras
from keras import ops

from cmclrec_tf.backbones.base import Backbone, blank, register
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import attention_mask
from cmclrec_tf.layers.session_graph import GatedPropagation, SessionGraph


@register("sr_gnn")
class SRGNN(Backbone):
    """A gated graph network on the graph of the history, and soft attention to read it out.

    v = `blocks` steps of propagation from x; alpha_ti = q . sigmoid(W1 v_t + W2 v_i + c);
    s_t = mean over real i <= t of alpha_ti v_i; G_t = W3 [v_t, s_t].

    A backbone sees vectors and no ids, so the graph's nodes are positions, and positions with
    nearly the same vector are the same item (`SessionGraph`). A node keeps the state it has in
    the graph of its own time: later edges would tell older positions of the future. For the
    newest position and one step this is the paper's graph exactly.

    Simulated histories hardly repeat a vector: where they do not, their graph is a chain, each
    position between the one before and itself; where they nearly do, the degree of likeness
    counts. The same holds for histories that the mapper has changed by context.
    """

    def __init__(self, length, config, **kwargs):
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

    def call(self, x, mask, training=None):
        """x [B, L, D], mask bool [B, L] -> G [B, L, D]."""
        x = blank(x, mask)
        edges = self.graph(x, mask)
        v = self.dropout(x, training=training)
        for _ in range(self.config.blocks):
            v = self.propagation(v, *edges)
        return blank(self.out(ops.concatenate([v, self._session(v, mask)], axis=-1)), mask)

    def _session(self, v, mask):
        """Soft attention of each position over the real ones up to it: s [B, L, D]."""
        pairs = self.newest(v)[:, :, None] + self.each(v)[:, None, :]  # [B, t, i, D/4]
        alpha = ops.squeeze(self.weight(ops.sigmoid(pairs)), axis=-1)  # [B, t, i]
        seen = ops.cast(attention_mask(ops.shape(v)[1], mask, causal=True), v.dtype)
        count = ops.maximum(ops.sum(seen, axis=-1, keepdims=True), 1)
        return ops.matmul(alpha * (seen / count), v)
