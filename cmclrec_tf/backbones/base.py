"""The backbone contract: any sequential recommender R(.) between embedded and encoded histories."""

import dataclasses

import keras

from cmclrec_tf.config import ModelConfig
from cmclrec_tf.errors import InputError

_REGISTRY = {}


class Backbone(keras.layers.Layer):
    """R(.) of Eq. (14): `call(x [B, L, D], mask [B, L], training) -> G [B, L, D]`.

    A backbone is causal, indifferent to left padding, never NaN (an all-padding row included) and
    serialisable. Position L-1 is the user's state. Subclasses take `(length, model_config)`.
    """

    def __init__(self, length, config, **kwargs):
        super().__init__(**kwargs)
        self.length = length
        self.config = ModelConfig(**config) if isinstance(config, dict) else config

    def get_config(self):
        own = {"length": self.length, "config": dataclasses.asdict(self.config)}
        return {**super().get_config(), **own}


def register(name):
    """Class decorator: makes a backbone available to the config word `model.backbone`."""

    def add(cls):
        _REGISTRY[name] = keras.saving.register_keras_serializable("cmclrec_tf")(cls)
        return cls

    return add


def names():
    """The registered names, sorted."""
    return sorted(_REGISTRY)


def create(name, length, config):
    """Builds the backbone `name` for histories of `length` items.

    Raises:
        InputError: no backbone of that name.
    """
    if name not in _REGISTRY:
        raise InputError(
            f"model.backbone={name!r}", f"backbones are {sorted(_REGISTRY)}", "Choose one of them."
        )
    return _REGISTRY[name](length, config, name="backbone")
