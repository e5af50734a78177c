"""States of users with a few known items, between the warm path and the cold path."""

from typing import TYPE_CHECKING

from keras import ops

from cmclrec_tf.schema import PAD
from cmclrec_tf.types import Features, FloatB, FloatBD, IdsBL, Tensor

if TYPE_CHECKING:
    from cmclrec_tf.models.cmclrec import CMCLRec


def count_items(history: IdsBL) -> Tensor:
    """Returns the number of items in each history, int32 [B].

    Example:
        >>> count_items(ops.array([[0, 0, 5], [4, 5, 6]])).numpy().tolist()
        [1, 3]
    """
    return ops.sum(ops.cast(history != PAD, "int32"), axis=1)


def blend(warm: FloatBD, cold: FloatBD, share: float | FloatB) -> FloatBD:
    """Returns (1 - share) warm + share cold.

    Scores are linear in the state, so they are blended in the same way.

    Args:
        warm, cold: float [B, D], states.
        share: the weight of the cold state; a number, or float [B].

    Example:
        >>> blend(ops.array([[0.0]]), ops.array([[4.0]]), 0.25).numpy().tolist()
        [[1.0]]
    """
    weight = ops.reshape(ops.cast(share, warm.dtype), (-1, 1))
    return (1 - weight) * warm + weight * cold


def cold_share(history: IdsBL, events: float) -> FloatB:
    """Returns the weight of the cold state for a user with n items: events / (n + events).

    The simulated history thus counts as that many events. The weight is 1 for an empty history
    and falls with each item.

    Args:
        history: int [B, L].
        events: at least 0.

    Returns:
        float32 [B].

    Example:
        >>> cold_share(ops.array([[0, 0], [4, 5]]), events=2.0).numpy().tolist()
        [1.0, 0.5]
    """
    return events / ops.maximum(ops.cast(count_items(history), "float32") + events, 1e-9)


def joined_states(model: "CMCLRec", history: IdsBL, features: Features) -> FloatBD:
    """Returns states of the simulated history followed by the real one, as one sequence.

    The newest simulated vectors, `model.simulated` of them at most, take the places of the padding
    next to the real items.

    Args:
        model: `CMCLRec`.
        history: int [B, L].
        features: the user features of the batch.

    Returns:
        float [B, D].

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("city", size=4),), items=6)
        >>> model = cm.CMCLRec(schema, cm.Config.preset("tiny"))  # 20 positions, D = 16
        >>> history = ops.concatenate([ops.zeros((1, 19), "int32"), ops.array([[5]])], axis=1)
        >>> joined_states(model, history, {"city": ops.array([[2]])}).shape
        TensorShape([1, 16])
    """
    simulated = model.mapper.simulate(model.mapper.feature_side(features))
    t_s, real = model.embed(history, training=False), history != PAD
    length = simulated.shape[1]
    count = model.config.model.simulated_positions(length)
    # A row with n items takes its simulated vectors from n positions later, so that the newest one
    # lands right before the oldest real item.
    source = ops.arange(length)[None] + count_items(history)[:, None]
    used = ops.logical_and(source >= length - count, source < length)
    source = ops.clip(source, 0, length - 1)[:, :, None]
    moved = ops.take_along_axis(simulated, source, axis=1)
    x = ops.where(real[:, :, None], t_s, ops.cast(moved, t_s.dtype))
    return model.backbone.state(x, ops.logical_or(real, used), training=False)
