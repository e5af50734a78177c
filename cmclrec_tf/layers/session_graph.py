"""The layers of SR-GNN: a history as a graph of its items, and gated propagation on it."""

import math
from typing import Any

import keras
from keras import ops

from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.types import BoolBN, BoolBNN, FloatBND, FloatBNN, KerasConfig

# Initial k of `SessionGraph`: vectors at right angles count as the same item to the degree e^-20.
SHARPNESS = 20.0


@keras.saving.register_keras_serializable("cmclrec_tf")
class SessionGraph(keras.layers.Layer):
    """Builds the adjacency matrices of each position's graph: x -> A_in, A_out [B, N, N].

    Row i describes the item at position i, in the graph of the positions up to i. A backbone sees
    vectors and no ids, so positions i and j hold the same item to the degree
    s_ij = exp(k (cos(x_i, x_j) - 1)), with k > 0 learned. Every pair of neighbouring real
    positions is an edge, so

        A_in[i, j] = s_{i, j+1} / N_i,   A_out[i, j] = s_{i, j-1} / N_i,   real j <= i,

    with N_i the sum of the row, at least 1. Where equal items have equal vectors and different
    items lie far apart, these are the normalised counts of incoming and outgoing edges.

    Example:
        >>> from keras import ops
        >>> x = ops.array([[[1.0, 0.0], [0.0, 1.0]]])  # two different items
        >>> a_in, a_out = SessionGraph()(x, ops.ones((1, 2), dtype="bool"))
        >>> ops.round(a_in).numpy().tolist()  # the second item follows the first
        [[[0.0, 0.0], [1.0, 0.0]]]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sharpness = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(SHARPNESS)),
            name="sharpness",
        )

    def call(self, x: FloatBND, mask: BoolBN) -> tuple[FloatBNN, FloatBNN]:
        """Returns A_in and A_out [B, N, N], in the dtype of x.

        Args:
            x: float [B, N, D].
            mask: bool [B, N], True where there is an item.
        """
        n = ops.shape(x)[1]
        slot = ops.arange(n)
        unit = ops.cast(x, "float32")  # cosines in float16 cannot separate near from equal
        unit = unit / ops.sqrt(ops.maximum(ops.sum(unit * unit, -1, keepdims=True), 1e-12))
        cosine = ops.matmul(unit, ops.transpose(unit, (0, 2, 1)))  # [B, N, N]
        same = ops.exp(ops.exp(ops.cast(self.sharpness, "float32")) * (cosine - 1.0))
        same = ops.where(slot[:, None] == slot[None, :], 1.0, same)
        known = ops.logical_and(slot[None, :] <= slot[:, None], mask[:, None, :])  # [B, N, N]
        same = ops.where(known, same, 0.0)
        before = ops.pad(same, [[0, 0], [0, 0], [0, 1]])[:, :, 1:]  # s_{i, j+1}
        after = ops.pad(same, [[0, 0], [0, 0], [1, 0]])[:, :, :-1]  # s_{i, j-1}
        return self._normalised(before, known, x.dtype), self._normalised(after, known, x.dtype)

    def _normalised(self, edges: FloatBNN, known: BoolBNN, dtype: str) -> FloatBNN:
        edges = ops.where(known, edges, 0.0)
        # At least 1: an item that only resembles another must not claim all of its edges.
        return ops.cast(edges / ops.maximum(ops.sum(edges, -1, keepdims=True), 1.0), dtype)


@keras.saving.register_keras_serializable("cmclrec_tf")
class GatedPropagation(keras.layers.Layer):
    """Eqs. (1)-(5) of SR-GNN: one step of a gated graph network, h <- (1 - z) h + z h~.

    a = [A_in (h W_1 + b_1), A_out (h W_2 + b_2)]; z, r = sigmoid([a, h] W_zr + b_zr);
    h~ = tanh([a, r h] W_o + b_o). Each node collects the states of its neighbours, and gates
    decide how much of them replaces its state.

    Args:
        width: D.

    Source: Wu et al., Session-based Recommendation with Graph Neural Networks, AAAI 2019.

    Example:
        >>> from keras import ops
        >>> h, edges = ops.ones((2, 3, 8)), ops.ones((2, 3, 3))
        >>> ops.shape(GatedPropagation(width=8)(h, edges, edges))
        (2, 3, 8)
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.incoming = Dense(width, name="incoming")
        self.outgoing = Dense(width, name="outgoing")
        self.gates = Dense(2 * width, activation="sigmoid", name="gates")
        self.candidate = Dense(width, activation="tanh", name="candidate")

    def call(self, h: FloatBND, a_in: FloatBNN, a_out: FloatBNN) -> FloatBND:
        """Returns the next states [B, N, D] for states h [B, N, D] and edges [B, N, N]."""
        from_before = ops.matmul(a_in, self.incoming(h))
        from_after = ops.matmul(a_out, self.outgoing(h))
        a = ops.concatenate([from_before, from_after], axis=-1)  # [B, N, 2 D]
        z, r = ops.split(self.gates(ops.concatenate([a, h], axis=-1)), 2, axis=-1)
        candidate = self.candidate(ops.concatenate([a, r * h], axis=-1))
        return (1 - z) * h + z * candidate

    def get_config(self) -> KerasConfig:
        return {**super().get_config(), "width": self.width}
