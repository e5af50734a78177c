"""Sequential recommenders behind one contract; importing a module registers its backbone."""

from cmclrec_tf.backbones import (  # noqa: F401
    bert4rec,
    caser,
    gru4rec,
    hstu,
    ligr,
    mclrec,
    sasrec,
    sr_gnn,
)
from cmclrec_tf.backbones.base import Backbone, blank, create, is_causal, names, register

__all__ = ["Backbone", "blank", "create", "is_causal", "names", "register"]
