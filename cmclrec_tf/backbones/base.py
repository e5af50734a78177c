"""Defines the backbone contract R(.) of Eq. (14), and the registry of backbones."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import keras
from keras import ops

from cmclrec_tf.config import ModelConfig
from cmclrec_tf.config.sections import BACKBONES
from cmclrec_tf.errors import InputError
from cmclrec_tf.types import (
    BoolBL,
    BoolBN,
    FloatBD,
    FloatBLD,
    FloatBND,
    KerasConfig,
    Scalar,
    Tensor,
)


class Backbone(keras.layers.Layer):
    """R(.) of Eq. (14): `call(x [B, L, D], mask [B, L], training) -> G [B, L, D]`.

    A backbone maps embedded histories to states. x is padded on the left; mask is True where an
    item is real. G at position L-1 is the user's state, and the next item is scored by the product
    of that state with the item embeddings. The contract:

    - padding changes no real position, and G is zero where mask is False,
    - G is never NaN, not even for a row that is all padding,
    - the layer is serialisable: it is built from `(length, model_config)` alone, and uses the
      config's `width`, `blocks`, `heads` and `dropout`.

    `causal` says whether G at t depends only on x at or before t, so that every position can be
    trained on its next item. A backbone that is not causal also has

    - `mask_vector`, a weight [D] created in `__init__`: it stands for a hidden item,
    - `cloze(x, mask, training) -> H [B, L, D]`: the states of the input positions themselves,
      aligned with x, each seeing both sides. The caller writes `mask_vector` into x where an item
      is hidden (mask stays True there) and trains H at those positions on the hidden items.

    The `call` of such a backbone appends a mask vector to the history and returns the states one
    position later: G at t is the state at the position of item t+1, G at L-1 that of the mask
    vector.

    `reads_times` says whether `call` and `state` take `times=`, int64 [B, L + 1]: the times of the
    history, and then that of the request. With `model.times` they get them, where they are known.

    Args:
        length: L, the longest history.
        config: the `ModelConfig`, or the dict that `get_config` makes of it.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> from keras import ops
        >>> backbone = create("sasrec", 5, ModelConfig(width=8, heads=2))
        >>> x, mask = ops.ones((3, 5, 8)), ops.ones((3, 5), dtype="bool")
        >>> ops.shape(backbone(x, mask)), ops.shape(backbone.state(x, mask))
        ((3, 5, 8), (3, 8))
    """

    causal: ClassVar[bool] = True
    reads_times: ClassVar[bool] = False
    mask_vector: Tensor | None = None

    def __init__(self, length: int, config: ModelConfig | KerasConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length
        self.config = ModelConfig(**config) if isinstance(config, dict) else config

    def state(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBD:
        """Returns the users' states [B, D], which are G at L-1.

        Override it where one position costs less than all.
        """
        return self(x, mask, training=training)[:, -1]

    def auxiliary_loss(self, x: FloatBLD, mask: BoolBL) -> Scalar:
        """Returns a training loss specific to the backbone, already weighted; 0 by default.

        The model adds it to the total. Under several replicas it is this replica's share.
        """
        return 0.0

    def get_config(self) -> KerasConfig:
        config = dataclasses.asdict(self.config)
        return {**super().get_config(), "length": self.length, "config": config}


_REGISTRY: dict[str, type[Backbone]] = {}


def blank(x: FloatBND, mask: BoolBN) -> FloatBND:
    """Sets masked positions to zero, whatever they hold, NaN included.

    Args:
        x: float [B, N, D].
        mask: bool [B, N].

    Returns:
        float [B, N, D], zeros where mask is False.

    Example:
        >>> from keras import ops
        >>> blank(ops.array([[[7.0], [5.0]]]), ops.array([[False, True]])).numpy().tolist()
        [[[0.0], [5.0]]]
    """
    return ops.where(mask[:, :, None], x, 0)


def register(name: str) -> Callable[[type[Backbone]], type[Backbone]]:
    """Class decorator that makes a backbone available as `model.backbone` in a config.

    Args:
        name: the name in the config.

    Example:
        >>> @register("last_item")
        ... class LastItem(Backbone):
        ...     def call(self, x, mask, training=None):
        ...         return blank(x, mask)
        >>> "last_item" in names()
        True
        >>> del _REGISTRY["last_item"]  # this example leaves nothing behind
        >>> BACKBONES.remove("last_item")
    """

    def add(cls: type[Backbone]) -> type[Backbone]:
        BACKBONES.add(name)
        _REGISTRY[name] = keras.saving.register_keras_serializable("cmclrec_tf")(cls)
        return cls

    return add


def names() -> list[str]:
    """Returns the names of the registered backbones, sorted.

    Example:
        >>> "sasrec" in names()
        True
    """
    return sorted(_REGISTRY)


def is_causal(name: str) -> bool:
    """Returns whether a backbone can be trained on every position; see `Backbone.causal`.

    Args:
        name: a registered name.

    Raises:
        InputError: there is no backbone of that name.

    Example:
        >>> is_causal("sasrec"), is_causal("bert4rec")
        (True, False)
    """
    return _registered(name).causal


def create(name: str, length: int, config: ModelConfig) -> Backbone:
    """Creates a backbone by its name.

    Args:
        name: a registered name.
        length: L, the longest history.
        config: the `ModelConfig`.

    Raises:
        InputError: there is no backbone of that name, or it reads no times and the config has
            `model.times`.

    Example:
        >>> from cmclrec_tf.config import ModelConfig
        >>> create("gru4rec", 5, ModelConfig(width=8)).name
        'backbone'
    """
    backbone = _registered(name)
    if config.times and not backbone.reads_times:
        reading = sorted(name for name, cls in _REGISTRY.items() if cls.reads_times)
        raise InputError(
            f"model.times=True with the backbone {name!r}",
            f"of the backbones, {reading} read times",
            "Choose one of them, or set model.times=false.",
        )
    return backbone(length, config, name="backbone")


def _registered(name: str) -> type[Backbone]:
    if name not in _REGISTRY:
        raise InputError(
            f"model.backbone={name!r}", f"backbones are {names()}", "Choose one of them."
        )
    return _REGISTRY[name]
