"""What CMCLRec is compared with: floors, and cold-start recommenders of other papers."""

import importlib

_HOMES = {
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


def names():
    """The trained baselines of other papers, sorted."""
    return sorted(_HOMES)


def create(name, schema, config):
    """The untrained baseline of a name out of `names()`; a `base.Baseline`."""
    module, cls = _HOMES[name]
    return getattr(importlib.import_module(f"cmclrec_tf.baselines.{module}"), cls)(schema, config)


def load_all() -> None:
    """Imports every baseline with weights, which registers its classes with Keras."""
    for module in ("feature_mlp", "neighbours", *(module for module, _ in _HOMES.values())):
        importlib.import_module(f"cmclrec_tf.baselines.{module}")
