"""Users with a few known items: states between the warm way and the cold one."""

from keras import ops

from cmclrec_tf.schema import PAD


def known(history):
    """history ids [B, L] -> number of items in each, int [B]."""
    return ops.sum(ops.cast(history != PAD, "int32"), axis=1)


def blended(warm, cold, share):
    """(1 - share) warm + share cold: states [B, D], share a number or [B].

    Scores are linear in the state, a bias per item included, so they are blended alike.
    """
    share = ops.reshape(ops.cast(share, warm.dtype), (-1, 1))
    return (1 - share) * warm + share * cold


def share_of(history, events):
    """The cold way's share of a user with n known items, events / (n + events), float [B].

    The simulated history counts as that many events: 1 without a known item, less with each.
    """
    return events / ops.maximum(ops.cast(known(history), "float32") + events, 1e-9)


def joined_states(model, history, features):
    """States [B, D] of the simulated history with the real one behind it, as one sequence.

    The newest simulated vectors, `model.simulated` of them at most, stand where the padding next
    to the real items would be.

    Args:
        model: `CMCLRec`. history: ids [B, L]. features: the batch's.
    """
    simulated = model.mapper.simulate(model.mapper.feature_side(features))
    t_s, real = model.embed(history, training=False), history != PAD
    length = simulated.shape[1]
    count = model.config.model.simulated_positions(length)
    # Place p of a row holds the simulated vector that is as far from the end of all L of them as
    # p is from the row's oldest item.
    place = ops.arange(length)[None] + known(history)[:, None]
    used = ops.logical_and(place >= length - count, place < length)
    moved = ops.take_along_axis(simulated, ops.clip(place, 0, length - 1)[:, :, None], axis=1)
    x = ops.where(real[:, :, None], t_s, ops.cast(moved, t_s.dtype))
    return model.backbone.state(x, ops.logical_or(real, used), training=False)
