"""What the baselines that adapt to a user by gradient steps share."""

import math

import tensorflow as tf
from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.losses.next_item import zipf_quantiles
from cmclrec_tf.schema import FIRST_ID


def adapted(values, loss_of, steps, rate):
    """Gradient steps on a loss, through which a gradient can go.

    Args:
        values: list of tensors [B, ...], a user's own in each row.
        loss_of: values -> losses [B]; no user's loss depends on another's values.
        steps, rate: how many, and how far.

    Returns:
        The values after the steps.
    """
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(loss_of(values))
        values = [v - rate * g for v, g in zip(values, tape.gradient(loss, values), strict=True)]
    return values


def stepped(states, items, history, negatives, settings):
    """States after gradient steps on a history, whose items are ranked among sampled ones.

    Args:
        states: [B, D]. items: ids [...] -> embeddings [..., D]. history: ids [B, L].
        negatives: ids [n] and log of the chance of every item in a draw [V], see `sample_zipf`.
        settings: `BaselineConfig`.

    Returns:
        The states [B, D] after the steps, and the loss [B] before them.
    """
    own, noise = items(history), items(negatives[0])  # [B, L, D], [n, D]

    def loss_of(values):
        scores = ops.einsum("bd,bld->bl", values[0], own)
        return log_loss(scores, ops.matmul(values[0], ops.transpose(noise)), history, *negatives)

    after = adapted([states], loss_of, settings.inner_steps, settings.inner_rate)[0]
    return after, loss_of([states])


def log_loss(own, others, items, ids, log_q, seen=None):
    """Softmax cross-entropy of each item among sampled ones, mean over a user's known items.

    Args:
        own: [B, m], scores of `items`.
        others: [B, n], scores of `ids`, or [B, m, n] where they depend on the item's place.
        items: int [B, m]; below FIRST_ID there is none.
        ids, log_q: int [n], and log of the chance of every item in a draw [V], see `sample_zipf`.
        seen: int [B, s], further items that are no rivals; see `Baseline.item_loss`.

    Returns:
        [B]; 0 for a user without known items.
    """
    others = others - ops.take(log_q, ids) - math.log(ids.shape[0])
    others = others[:, None] if len(others.shape) == 2 else others
    no_rival = items[:, :, None] == ids  # [B, m, n]
    if seen is not None:
        no_rival = no_rival | ops.any(seen[:, :, None] == ids, axis=1)[:, None]
    others = ops.where(no_rival, MASKED_SCORE, others)
    scores = ops.concatenate([own[:, :, None], others], axis=2)
    known = ops.cast(items >= FIRST_ID, "float32")
    loss = (ops.logsumexp(scores, axis=2) - own) * known
    return ops.sum(loss, axis=1) / ops.maximum(ops.sum(known, axis=1), 1.0)


def spread(n, size):
    """As `sample_zipf`, without lots: at equal steps of the law, so the same items for everybody."""
    return zipf_quantiles((ops.arange(n, dtype="float32") + 0.5) / n, size)
