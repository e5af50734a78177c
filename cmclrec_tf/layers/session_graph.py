"""A history as a graph of its items, and gated propagation on it, causal per position."""

import math

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense

# The sharpness that a graph starts with: vectors at right angles count as e^-20 of one item.
SHARPNESS = 20.0


@keras.saving.register_keras_serializable("cmclrec_tf")
class SessionGraph(keras.layers.Layer):
    """Who follows whom in a history, as known at each position: x -> A_in, A_out [B, n, n].

    Row i belongs to the item at position i, in the graph of the positions up to i. Positions i
    and j hold the same item to the degree s_ij = exp(k (cos(x_i, x_j) - 1)), k > 0 learned.
    For every edge, that is for every pair of neighbouring real positions,

        A_in[i, j] = s_{i, j+1} / N,   A_out[i, j] = s_{i, j-1} / N,   real j <= i,

    with N the sum of the row, at least 1. Where equal items have equal vectors and different ones
    lie far apart, these are the normalised counts of incoming and outgoing edges.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.sharpness = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(SHARPNESS)),
            name="sharpness",
        )

    def call(self, x, mask):
        """x [B, n, D], mask bool [B, n] -> A_in, A_out [B, n, n] in the dtype of x."""
        n = ops.shape(x)[1]
        slot = ops.arange(n)
        unit = ops.cast(x, "float32")  # cosines of float16 cannot tell near from equal
        unit = unit / ops.sqrt(ops.maximum(ops.sum(unit * unit, -1, keepdims=True), 1e-12))
        cosine = ops.matmul(unit, ops.transpose(unit, (0, 2, 1)))  # [B, n, n]
        same = ops.exp(ops.exp(ops.cast(self.sharpness, "float32")) * (cosine - 1.0))
        same = ops.where(slot[:, None] == slot[None, :], 1.0, same)
        known = ops.logical_and(slot[None, :] <= slot[:, None], mask[:, None, :])  # [B, n, n]
        same = ops.where(known, same, 0.0)
        before = ops.pad(same, [[0, 0], [0, 0], [0, 1]])[:, :, 1:]  # s_{i, j+1}
        after = ops.pad(same, [[0, 0], [0, 0], [1, 0]])[:, :, :-1]  # s_{i, j-1}
        return tuple(self._rows(edges, known, x.dtype) for edges in (before, after))

    def _rows(self, edges, known, dtype):
        edges = ops.where(known, edges, 0.0)
        # Not below 1: what only resembles an item must not pass for all of its edges.
        return ops.cast(edges / ops.maximum(ops.sum(edges, -1, keepdims=True), 1.0), dtype)


@keras.saving.register_keras_serializable("cmclrec_tf")
class GatedPropagation(keras.layers.Layer):
    """Eqs. (1)-(5) of SR-GNN: one step of a gated graph network, h <- (1 - z) h + z h~.

    a = [A_in (h W_1 + b_1), A_out (h W_2 + b_2)]; z, r = sigmoid([a, h] W_zr + b_zr);
    h~ = tanh([a, r h] W_o + b_o).

    Args:
        width: D.

    Source: Wu et al., Session-based Recommendation with Graph Neural Networks, AAAI 2019.
    """

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.incoming = Dense(width, name="incoming")
        self.outgoing = Dense(width, name="outgoing")
        self.gates = Dense(2 * width, activation="sigmoid", name="gates")
        self.candidate = Dense(width, activation="tanh", name="candidate")

    def call(self, h, a_in, a_out):
        """h [B, n, D], a_in and a_out [B, n, n] -> [B, n, D]."""
        came = ops.matmul(a_in, self.incoming(h))
        went = ops.matmul(a_out, self.outgoing(h))
        a = ops.concatenate([came, went], axis=-1)  # [B, n, 2 D]
        z, r = ops.split(self.gates(ops.concatenate([a, h], axis=-1)), 2, axis=-1)
        candidate = self.candidate(ops.concatenate([a, r * h], axis=-1))
        return (1 - z) * h + z * candidate

    def get_config(self):
        return {**super().get_config(), "width": self.width}
