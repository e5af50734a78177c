"""MeLU: a preference network whose last layers are adapted to each user by gradient steps."""

import math

import keras
import tensorflow as tf
from keras import ops

from cmclrec_tf.baselines.base import Baseline
from cmclrec_tf.baselines.meta import adapted, log_loss, spread
from cmclrec_tf.layers.dense import Dense
from cmclrec_tf.losses.next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding


@keras.saving.register_keras_serializable("cmclrec_tf")
class MeLU(Baseline):
    """Model-agnostic meta-learning: theta_u = theta - alpha grad L(theta; history of u).

    A user's score of an item is a network on the embeddings of user features and item. Its
    decision layers theta are adapted to the user's history (support set); the loss of the adapted
    layers on another item of the user (query set) trains their starting point, and the embeddings,
    through the adaptation. A user without events is answered by the layers as they are.

    The paper predicts ratings; here both sets are ranked among sampled items.

    Source: Lee et al., MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation,
    KDD 2019, section 3.2 and algorithm 1.
    """

    losses = ("loss/query",)

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        width = self.config.model.width
        self.items = item_embedding(schema, width)
        self.user = Dense(width, name="user")
        self.shapes = ((2 * width, width), (width,), (width, width), (width,), (width, 1), (1,))
        self.decision = [
            self.add_weight(
                shape=shape,
                initializer="zeros" if len(shape) == 1 else "glorot_uniform",
                name=f"decision_{number}",
            )
            for number, shape in enumerate(self.shapes)
        ]

    def user_states(self, history, features, is_cold, training=None):
        """A state is the user's embedding and decision layers, flat in one row: [B, S]."""
        user = self.user(self.flat_tokens(features, training))
        negatives = spread(self.config.baseline.negatives, self.schema.items)
        layers = self._adapted(user, history, negatives)
        flat = [
            ops.reshape(w, (-1, math.prod(s))) for w, s in zip(layers, self.shapes, strict=True)
        ]
        return ops.concatenate([user, *flat], axis=1)

    def score(self, states):
        """states [B, S] -> scores of all items [B, V]."""
        table = ops.convert_to_tensor(self.table)

        def of_one(state):
            user, layers = self._parted(state[None])
            return _decide(layers, user, table[None])[0]

        return self.without_special(tf.map_fn(of_one, states, fn_output_signature=tf.float32))

    def losses_of(self, batch, training=None):
        context, positive = self.left_out(batch, training)
        user = self.user(self.flat_tokens(batch["features"], training))
        negatives = sample_zipf(self.config.baseline.negatives, self.schema.items, self.seed)
        layers = self._adapted(user, context, negatives)
        query = self._loss(layers, user, positive[:, None], negatives, context)
        loss = ops.mean(query)
        return {"loss/query": loss, "loss": loss}

    def _adapted(self, user, history, negatives):
        """The decision layers of every user, after gradient steps on the history."""
        rows, settings = ops.shape(user)[0], self.config.baseline
        layers = [ops.repeat(ops.convert_to_tensor(w)[None], rows, axis=0) for w in self.decision]
        return adapted(
            layers,
            lambda values: self._loss(values, user, history, negatives),
            settings.inner_steps,
            settings.inner_rate,
        )

    def _loss(self, layers, user, items, negatives, seen=None):
        """Mean over a user's known items [B, m] of `log_loss` among the negatives: [B]."""
        own = _decide(layers, user, self.items(items))
        others = _decide(layers, user, self.items(negatives[0])[None])
        return log_loss(own, others, items, *negatives, seen)

    def _parted(self, states):
        """States [B, S] -> user [B, D] and decision layers, each [B, ...]."""
        sizes = [math.prod(shape) for shape in self.shapes]
        user, *layers = tf.split(states, [self.config.model.width, *sizes], axis=1)
        return user, [
            tf.reshape(w, (-1, *shape)) for w, shape in zip(layers, self.shapes, strict=True)
        ]


def _decide(layers, user, items):
    """layers [B, ...], user [B, D], items [B or 1, n, D] -> scores [B, n]."""
    w1, b1, w2, b2, w3, b3 = layers
    width = user.shape[1]
    h = tf.einsum("bd,bdh->bh", user, w1[:, :width])[:, None]
    h = tf.nn.relu(h + tf.matmul(items, w1[:, width:]) + b1[:, None])
    h = tf.nn.relu(tf.matmul(h, w2) + b2[:, None])
    return (tf.matmul(h, w3) + b3[:, None])[:, :, 0]
