"""Eqs. (3) and (4): the contrastive loss between two views."""

from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.losses.reduction import weighted_mean
from cmclrec_tf.types import BoolBN, FloatB, FloatBD, FloatN, FloatND, KeysB, KeysN, Scalar


def info_nce(
    view1: FloatBD,
    view2: FloatBD,
    temperature: float,
    keys: KeysB | None = None,
    weights: FloatB | None = None,
) -> Scalar:
    """Eqs. (3), (4): mean over k of -log(exp(s_kk / tau) / sum_t exp(s_kt / tau)), s = cosine.

    Two views of one user should be closer to each other than to the views of other users. The sum
    runs over all users of the batch, k included. A user with the same key as k is the same user,
    or has the same profile, and is not a negative of k.

    Args:
        view1, view2: float [B, D], the two views of each user.
        temperature: tau.
        keys: int [B]; None means that all rows differ.
        weights: float [B], 0 for rows that count neither as users nor as negatives.

    Returns:
        Scalar; 0 when no row counts.

    Example:
        >>> from keras import ops
        >>> views = ops.eye(2)  # two users at right angles
        >>> round(float(info_nce(views, views, temperature=1.0)), 4)  # log(1 + 1 / e)
        0.3133
    """
    positive = ops.eye(ops.shape(view1)[0], dtype="bool")
    rows = info_nce_rows(view1, view2, temperature, positive, keys, keys, weights)
    return weighted_mean(rows, weights)


def info_nce_rows(
    view1: FloatBD,
    all_view2: FloatND,
    temperature: float,
    positive: BoolBN,
    keys: KeysB | None = None,
    all_keys: KeysN | None = None,
    all_weights: FloatN | None = None,
) -> FloatB:
    """Eqs. (3), (4) before the mean: the loss of each row against all N candidates.

    N exceeds B where a replica compares its rows with those of all replicas.

    Args:
        view1: float [B, D].
        all_view2: float [N, D].
        temperature: tau.
        positive: bool [B, N], True for the one candidate that is the row's other view.
        keys: int [B]. all_keys: int [N]; both or neither.
        all_weights: float [N], 0 for candidates that are not negatives.

    Returns:
        float32 [B].

    Example:
        >>> from keras import ops
        >>> views = ops.eye(2)
        >>> rows = info_nce_rows(views, views, 1.0, ops.eye(2, dtype="bool"))
        >>> [round(float(loss), 4) for loss in rows]
        [0.3133, 0.3133]
    """
    similarity = ops.matmul(_unit(view1), ops.transpose(_unit(all_view2))) / temperature  # [B, N]
    negative = ops.ones_like(positive)
    if keys is not None and all_keys is not None:
        negative = ops.not_equal(keys[:, None], all_keys[None, :])
    if all_weights is not None:
        negative = ops.logical_and(negative, all_weights[None, :] > 0)
    similarity = ops.where(ops.logical_or(negative, positive), similarity, MASKED_SCORE)
    positive_similarity = ops.sum(ops.where(positive, similarity, 0.0), axis=1)
    return ops.logsumexp(similarity, axis=1) - positive_similarity


def _unit(x: FloatND) -> FloatND:
    x = ops.cast(x, "float32")
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))
