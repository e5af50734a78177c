"""Recommenders that CMCLRec is compared with: simple floors and models of other papers."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmclrec_tf.baselines.base import Baseline
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema

# Name of each baseline: its module and its class.
_CLASSES = {
    "clcrec": ("clcrec", "CLCRec"),
    "deep-music": ("deep_music", "DeepMusic"),
    "dropout-net": ("dropout_net", "DropoutNet"),
    "heater": ("heater", "Heater"),
    "melu": ("melu", "MeLU"),
    "meta-embedding": ("meta_embedding", "MetaEmbedding"),
    "meta-tl": ("meta_tl", "MetaTL"),
    "mwuf": ("mwuf", "MWUF"),
    "pdma": ("pdma", "PDMA"),
    "sdcrec": ("sdcrec", "SDCRec"),
}


def names() -> list[str]:
    """Returns the names of the trained baselines of other papers, sorted.

    Example:
        >>> from cmclrec_tf import baselines
        >>> baselines.names()[:3]
        ['clcrec', 'deep-music', 'dropout-net']
    """
    return sorted(_CLASSES)


def create(name: str, schema: "Schema", config: "Config") -> "Baseline":
    """Creates an untrained baseline.

    Args:
        name: one of `names()`.
        schema: `Schema` with vocabulary sizes.
        config: `Config`; `model.width`, `finetune` and `baseline` are read.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf import baselines
        >>> schema = cm.Schema((cm.Feature("city", size=9),), items=50)
        >>> baselines.create("heater", schema, cm.Config()).losses
        ('loss/scores', 'loss/similarity')
    """
    module, class_name = _CLASSES[name]
    baseline: Baseline = getattr(_module(module), class_name)(schema, config)
    return baseline


def load_all() -> None:
    """Imports every baseline with weights, which registers its classes with Keras.

    Example:
        >>> import keras
        >>> from cmclrec_tf import baselines
        >>> baselines.load_all()
        >>> keras.saving.get_registered_object("cmclrec_tf>MeLU").__name__
        'MeLU'
    """
    for module in ("feature_mlp", "neighbours", *(module for module, _ in _CLASSES.values())):
        _module(module)


def _module(name: str) -> object:
    return importlib.import_module(f"cmclrec_tf.baselines.{name}")
