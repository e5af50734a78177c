"""MCLRec: Qin et al., Meta-optimized Contrastive Learning for Sequential Recommendation, SIGIR
2023."""

import keras
from keras import ops

from cmclrec_tf import augment, replicas
from cmclrec_tf.backbones.base import blank, register
from cmclrec_tf.backbones.sasrec import SASRec
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.losses.info_nce import info_nce_rows
from cmclrec_tf.losses.reduction import weighted_mean
from cmclrec_tf.types import BoolBL, BoolBN, FloatB, FloatBD, FloatBLD, FloatN, FloatND, Scalar

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

    def auxiliary_loss(self, x: FloatBLD, mask: BoolBL) -> Scalar:
        """Returns aux for histories x [B, L, D], mask [B, L]; an empty history does not count.

        The users of all replicas are negatives, and the result is the replica's share.
        """
        (x1, mask1), (x2, mask2) = self.views(x, mask)
        g = self.state(ops.concatenate([x1, x2]), ops.concatenate([mask1, mask2]), training=True)
        h = ops.split(g, 2)  # 2 x [B, D]
        z = [augmenter(view) for augmenter, view in zip(self.augmenters, h, strict=True)]
        has_history = ops.cast(ops.any(mask, axis=1), "float32")
        all_weights = replicas.gathered(has_history)  # [N], over all replicas
        positive = replicas.itself(ops.shape(h[0])[0], ops.shape(all_weights)[0])  # [B, N]

        def contrast(view1: FloatBD, view2: FloatBD) -> Scalar:
            rows = info_nce_rows(
                view1, _gathered(view2), TEMPERATURE, positive, all_weights=all_weights
            )
            return replicas.mean(rows, has_history)

        def regularisation(view1: FloatBD, view2: FloatBD) -> Scalar:
            rows = regularisation_rows(view1, _gathered(view2), positive, all_weights)
            return replicas.mean(rows, has_history * has_negative(positive, all_weights))

        learned = contrast(z[0], z[1]) + contrast(h[0], z[1]) + contrast(h[1], z[0])
        h = [ops.stop_gradient(view) for view in h]
        z = [augmenter(view) for augmenter, view in zip(self.augmenters, h, strict=True)]
        pairs = [(z[0], z[1]), (h[0], z[1]), (h[1], z[0])]
        return (
            STOCHASTIC * contrast(*ops.split(g, 2))
            + LEARNED * learned
            + REGULARISATION * sum(regularisation(*pair) for pair in pairs)
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


def _gathered(view: FloatBD) -> FloatND:
    """Returns the view's rows of all replicas, in float32: the sum of their gradients needs it."""
    return replicas.gathered(ops.cast(view, "float32"))


def contrastive_regularisation(view1: FloatBD, view2: FloatBD, weights: FloatB) -> Scalar:
    """R = mean_k [s_kk - low_k]_+ + mean_kt [high_k - s_kt]_+, t != k, s = cosine.

    low_k and high_k are the smaller and the larger one of s_kk and max_t s_kt. It keeps learned
    views from being mere copies: a pair need not be closer than its nearest negative.

    Args:
        view1, view2: float [B, D], two views of each user.
        weights: float [B], 0 for rows that count neither as users nor as negatives.

    Returns:
        Scalar; 0 where no row has a negative.

    Example:
        >>> from keras import ops
        >>> views = ops.eye(2)  # both users' views agree, and differ from the other user's
        >>> float(contrastive_regularisation(views, views, ops.ones(2)))
        2.0
    """
    positive = ops.eye(ops.shape(view1)[0], dtype="bool")
    rows = regularisation_rows(view1, view2, positive, weights)
    return weighted_mean(rows, weights * has_negative(positive, weights))


def regularisation_rows(
    view1: FloatBD, all_view2: FloatND, positive: BoolBN, all_weights: FloatN
) -> FloatB:
    """R before the mean over k: the value of each row against all N candidates.

    Args:
        view1: float [B, D].
        all_view2: float [N, D], the other views, of the users of all replicas.
        positive: bool [B, N], True for the one candidate that is the row's other view.
        all_weights: float [N], 0 for candidates that are not negatives.

    Returns:
        float32 [B]; of no meaning for a row without a negative, see `has_negative`.

    Example:
        >>> from keras import ops
        >>> views, positive = ops.eye(2), ops.eye(2, dtype="bool")
        >>> regularisation_rows(views, views, positive, ops.ones(2)).numpy().tolist()
        [2.0, 2.0]
    """
    view1, all_view2 = (
        ops.normalize(ops.cast(view, "float32"), axis=-1) for view in (view1, all_view2)
    )
    similarity = ops.matmul(view1, ops.transpose(all_view2))  # [B, N]
    negatives = ops.where(positive, 0.0, all_weights[None, :])
    own_similarity = ops.sum(ops.where(positive, similarity, 0.0), axis=1)
    nearest = ops.max(ops.where(negatives > 0, similarity, MASKED_SCORE), axis=1)
    low, high = ops.minimum(own_similarity, nearest), ops.maximum(own_similarity, nearest)
    apart = ops.relu(high[:, None] - similarity) * negatives
    apart = ops.sum(apart, axis=1) / ops.maximum(ops.sum(negatives, axis=1), 1.0)
    return ops.relu(own_similarity - low) + apart


def has_negative(positive: BoolBN, all_weights: FloatN) -> FloatB:
    """Returns 1 for each row that has a candidate besides its own other view, else 0.

    Args:
        positive: bool [B, N], True for the one candidate that is the row's other view.
        all_weights: float [N], 0 for candidates that are not negatives.

    Returns:
        float32 [B].

    Example:
        >>> from keras import ops
        >>> has_negative(ops.eye(2, dtype="bool"), ops.array([1.0, 0.0])).numpy().tolist()
        [0.0, 1.0]
    """
    negatives = ops.where(positive, 0.0, all_weights[None, :])
    return ops.cast(ops.any(negatives > 0, axis=1), "float32")
