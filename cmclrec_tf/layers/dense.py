"""A dense layer whose cost, on the way back too, is that of one matrix product."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("cmclrec_tf")
class Dense(keras.layers.Dense):
    """y = activation(x W + b) over the last axis of x, of any rank.

    As `keras.layers.Dense`, whose gradient by W would be made for every row of the batch and then
    summed, [B, C, D] numbers, when x is [B, n, C]. Here the rows of all are one matrix.
    """

    def call(self, inputs, training=None):
        """x [..., C] -> y [..., units]."""
        return map_rows(super().call, inputs)


def map_rows(f, x):
    """f, a map of [N, C] to [N, D], over the last axis of x [..., C] -> [..., D]."""
    if len(x.shape) == 2:
        return f(x)
    y = f(ops.reshape(x, (-1, x.shape[-1])))
    return ops.reshape(y, (*ops.shape(x)[:-1], y.shape[-1]))
