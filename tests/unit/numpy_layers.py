"""Layers recomputed in NumPy, from the weights of the Keras layers."""

import math

import numpy as np


def dense(layer, x):
    out = x @ layer.kernel.numpy()
    return out + layer.bias.numpy() if layer.use_bias else out


def norm(layer, x):
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return z * layer.gamma.numpy() + layer.beta.numpy()


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))) / 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
