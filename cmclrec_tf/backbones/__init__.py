"""Sequential recommenders behind one contract."""

from cmclrec_tf.backbones import sasrec as _sasrec  # noqa: F401  registers itself
from cmclrec_tf.backbones.base import Backbone, create, register

__all__ = ["Backbone", "create", "register"]
