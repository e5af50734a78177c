"""MCLRec: Qin et al., Meta-optimized Contrastive Learning for Sequential Recommendation, SIGIR
2023."""

import keras
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.backbones.base import blank, register
from cmclrec_tf.backbones.sasrec import SASRec
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.losses.info_nce import info_nce, weighted_mean

STOCHASTIC, LEARNED, REGULARISATION = 0.1, 0.1, 0.1  # lambda, beta, gamma
TEMPERATURE = 0.1


@register("mclrec")
class MCLRec(SASRec):
    """SASRec, trained to tell users apart in stochastic views and in learned ones.

    Two random views (crop, mask, reorder) of a history are encoded to h1, h2; two small networks,
    the augmenters, make z1 = w1(h1), z2 = w2(h2) of them. With C = InfoNCE,

        aux = lambda C(h1, h2) + beta (C(z1, z2) + C(h1, z2) + C(h2, z1)) + gamma R.

    R, the contrastive regularisation, reaches the augmenters only. The paper updates encoder and
    augmenters in turn; here both take their gradients in one step.
    """

    def __init__(self, length, config, **kwargs):
        super().__init__(length, config, **kwargs)
        width = self.config.width
        self.mask_vector = self.add_weight(
            shape=(width,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_vector",
        )
        self.augmenters = [self._augmenter(width, f"augmenter_{i}") for i in (1, 2)]
        self.seed = keras.random.SeedGenerator()

    def _augmenter(self, width, name):
        layers = [Dense(width, "relu"), Dense(width)]
        augmenter = keras.Sequential(layers, name=name)
        augmenter.build((None, width))  # `call` never comes past it
        return augmenter

    def auxiliary_loss(self, x, mask):
        """x [B, L, D], mask bool [B, L] -> aux in float32; an empty history does not count."""
        (x1, mask1), (x2, mask2) = self.views(x, mask)
        g = self.state(ops.concatenate([x1, x2]), ops.concatenate([mask1, mask2]), training=True)
        h = ops.split(g, 2)  # 2 x [B, D]
        z = [augmenter(one) for augmenter, one in zip(self.augmenters, h, strict=True)]
        count = ops.cast(ops.any(mask, axis=1), "float32")

        def contrast(one, other):
            return info_nce(one, other, TEMPERATURE, weights=count)

        learned = contrast(z[0], z[1]) + contrast(h[0], z[1]) + contrast(h[1], z[0])
        h = [ops.stop_gradient(one) for one in h]
        z = [augmenter(one) for augmenter, one in zip(self.augmenters, h, strict=True)]
        pairs = [(z[0], z[1]), (h[0], z[1]), (h[1], z[0])]
        regularisation = sum(contrastive_regularisation(*pair, count) for pair in pairs)
        return (
            STOCHASTIC * contrast(*ops.split(g, 2))
            + LEARNED * learned
            + REGULARISATION * regularisation
        )

    def views(self, x, mask):
        """Two random views of x [B, L, D]: pairs (x, mask); hidden items are `mask_vector`."""
        x = blank(ops.cast(x, self.compute_dtype), mask)
        n = ops.shape(x)[1]
        # `augment` works on ids: the places of the items serve as such, 0 is padding.
        places = ops.where(mask, ops.arange(1, n + 1)[None], 0)
        return tuple(
            self._view(x, places, hidden)
            for places, hidden in augment.history_views(places, self.seed)
        )

    def _view(self, x, places, hidden):
        moved = ops.matmul(ops.one_hot(places - 1, ops.shape(x)[1], dtype=x.dtype), x)  # [B, L, D]
        moved = ops.where(hidden[:, :, None], ops.cast(self.mask_vector, x.dtype), moved)
        return moved, places > 0


def contrastive_regularisation(view1, view2, weights):
    """R = mean_k [s_kk - low_k]_+ + mean_kt [high_k - s_kt]_+, t != k, s = cosine.

    low_k and high_k are the smaller and the larger one of s_kk and max_t s_kt. It keeps learned
    views from being mere copies: a pair need not be closer than its nearest negative.

    Args:
        view1, view2: [B, D]. weights: [B], 0 for rows that are left out on both sides.

    Returns:
        Scalar; 0 where no row has a negative.
    """
    view1, view2 = (ops.normalize(ops.cast(view, "float32"), axis=-1) for view in (view1, view2))
    similarity = ops.matmul(view1, ops.transpose(replicas.gathered(view2)))  # [b, B]
    itself = replicas.itself(*ops.shape(similarity))
    others = ops.where(itself, 0.0, replicas.gathered(weights)[None, :])
    positive = ops.sum(ops.where(itself, similarity, 0.0), axis=1)
    nearest = ops.max(ops.where(others > 0, similarity, -2.0), axis=1)
    low, high = ops.minimum(positive, nearest), ops.maximum(positive, nearest)
    apart = ops.relu(high[:, None] - similarity) * others
    apart = ops.sum(apart, axis=1) / ops.maximum(ops.sum(others, axis=1), 1.0)
    counted = weights * ops.cast(ops.any(others > 0, axis=1), "float32")
    return weighted_mean(ops.relu(positive - low) + apart, counted)
