"""The backbone contract: any sequential recommender R(.) between embedded and encoded histories."""

import dataclasses

import keras
from keras import ops

from cmclrec_tf.config import ModelConfig
from cmclrec_tf.errors import InputError

_REGISTRY = {}


class Backbone(keras.layers.Layer):
    """R(.) of Eq. (14): `call(x [B, L, D], mask [B, L], training) -> G [B, L, D]`.

    x holds embedded histories, left-padded; mask is True where an item is real. Position L-1 is
    the user's state, and the next item is scored by its product with the item embeddings. A
    backbone is indifferent to left padding, comes out as zeros where mask is False, is never NaN
    (an all-padding row included) and serialisable. Subclasses take `(length, model_config)` and
    use `width`, `blocks`, `heads` and `dropout` of it.

    `causal` says whether G at t depends on x at or before t only, so that every position can be
    trained on its next item. A backbone that is not causal has in addition

    - `mask_vector`, a weight [D] that is there from the start: it stands for a hidden item,
    - `cloze(x, mask, training) -> H [B, L, D]`: the states of the input positions themselves,
      aligned with x, each seeing both sides. The caller writes `mask_vector` into x where an item
      is hidden (mask stays True there) and trains H at those positions on the hidden items.

    Its `call` appends a mask vector to the history and answers with the states one slot further
    on: G at t is the state of the slot of item t+1, G at L-1 that of the mask vector.
    """

    causal = True
    mask_vector = None

    def __init__(self, length, config, **kwargs):
        super().__init__(**kwargs)
        self.length = length
        self.config = ModelConfig(**config) if isinstance(config, dict) else config

    def state(self, x, mask, training=None):
        """The users' states, G at L-1, as `call` gives them: [B, D].

        To be overridden where one position costs less than all.
        """
        return self(x, mask, training=training)[:, -1]

    def auxiliary_loss(self, x, mask) -> float:
        """A training loss of the backbone's own, already weighted, added to the total: a scalar."""
        return 0.0

    def get_config(self):
        own = {"length": self.length, "config": dataclasses.asdict(self.config)}
        return {**super().get_config(), **own}


def blank(x, mask):
    """Zeros in x [B, n, C] where mask [B, n] is False, whatever stood there, NaN included."""
    return ops.where(mask[:, :, None], x, ops.zeros_like(x))


def register(name):
    """Class decorator: makes a backbone available to the config word `model.backbone`."""

    def add(cls):
        _REGISTRY[name] = keras.saving.register_keras_serializable("cmclrec_tf")(cls)
        return cls

    return add


def names():
    """The registered names, sorted."""
    return sorted(_REGISTRY)


def is_causal(name):
    """Whether the backbone `name` can be trained on every position; see `Backbone.causal`.

    Raises:
        InputError: no backbone of that name.
    """
    return _registered(name).causal


def create(name, length, config):
    """Builds the backbone `name` for histories of `length` items.

    Raises:
        InputError: no backbone of that name.
    """
    return _registered(name)(length, config, name="backbone")


def _registered(name):
    if name not in _REGISTRY:
        raise InputError(
            f"model.backbone={name!r}", f"backbones are {names()}", "Choose one of them."
        )
    return _REGISTRY[name]
