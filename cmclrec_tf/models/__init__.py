"""The models: the mapper, the two training stages, and the backbone alone."""

from cmclrec_tf.models.cmclrec import CMCLRec
from cmclrec_tf.models.cross_modal import CrossModalMapper
from cmclrec_tf.models.plain import PlainRecommender
from cmclrec_tf.models.pretrain import Pretrain

__all__ = ["CMCLRec", "CrossModalMapper", "PlainRecommender", "Pretrain"]
