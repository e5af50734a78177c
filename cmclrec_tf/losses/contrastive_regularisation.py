"""Regularises learned views: the contrastive regularisation of MCLRec."""

from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.losses.reduction import weighted_mean
from cmclrec_tf.types import BoolBN, FloatB, FloatBD, FloatN, FloatND, Scalar


def contrastive_regularisation(view1: FloatBD, view2: FloatBD, weights: FloatB) -> Scalar:
    """R = mean_k [s_kk - low_k]_+ + mean_kt [high_k - s_kt]_+, t != k, s = cosine.

    low_k and high_k are the smaller and the larger one of s_kk and max_t s_kt. It keeps learned
    views from becoming mere copies: a pair need not be closer than its nearest negative.

    Args:
        view1, view2: float [B, D], two views of each user.
        weights: float [B], 0 for rows that count neither as users nor as negatives.

    Returns:
        Scalar; 0 where no row has a negative.

    Source: Qin et al., Meta-optimized Contrastive Learning for Sequential Recommendation, SIGIR
    2023.

    Example:
        >>> from keras import ops
        >>> views = ops.eye(2)  # the views of a user are equal, those of the users at right angles
        >>> float(contrastive_regularisation(views, views, ops.ones(2)))
        2.0
    """
    positive = ops.eye(ops.shape(view1)[0], dtype="bool")
    rows = contrastive_regularisation_rows(view1, view2, positive, weights)
    return weighted_mean(rows, weights * has_negative(positive, weights))


def contrastive_regularisation_rows(
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
        >>> contrastive_regularisation_rows(views, views, positive, ops.ones(2)).numpy().tolist()
        [2.0, 2.0]
    """
    view1, all_view2 = (
        ops.normalize(ops.cast(view, "float32"), axis=-1) for view in (view1, all_view2)
    )
    similarity = ops.matmul(view1, ops.transpose(all_view2))  # [B, N]
    negatives = ops.where(positive, 0.0, all_weights[None, :])
    positive_similarity = ops.sum(ops.where(positive, similarity, 0.0), axis=1)
    nearest = ops.max(ops.where(negatives > 0, similarity, MASKED_SCORE), axis=1)
    low, high = ops.minimum(positive_similarity, nearest), ops.maximum(positive_similarity, nearest)
    apart = ops.relu(high[:, None] - similarity) * negatives
    apart = ops.sum(apart, axis=1) / ops.maximum(ops.sum(negatives, axis=1), 1.0)
    return ops.relu(positive_similarity - low) + apart


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
