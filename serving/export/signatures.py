"""The four signatures of the served model: strings in, strings out."""

import tensorflow as tf
from keras import ops

from cmclrec_tf.data import parsing
from cmclrec_tf.data.vocabulary import Lookup, ReverseLookup, clean
from cmclrec_tf.models import hybrid, ranking
from cmclrec_tf.schema import EXAMPLES, EXCLUDE, HISTORY, ITEMS, MULTI, PAD
from serving.contract import (
    COLD,
    EMBEDDING,
    IS_COLD,
    ITEM_IDS,
    SCORES,
    SERVING_DEFAULT,
    USER_EMBEDDING,
    WARM,
)

LOWEST = tf.float32.min


class Signatures(tf.Module):
    """The endpoints over a trained `CMCLRec`, each a function of tensors.

    Items of the history and of `exclude` never come back; where fewer than K items are left, the
    row ends in "" with the lowest float32 as score. A missing or unknown user feature counts as
    not given; unknown items of a history are dropped.

    Args:
        model: a trained `cmclrec_tf.CMCLRec`.
        vocabularies: {name: path}, see `Schema.vocabularies`.
        settings: `ServeConfig`; its list length is cut to the number of items.
    """

    def __init__(self, model, vocabularies, settings):
        super().__init__()
        self.model = model
        self.schema = model.schema
        self.length = model.config.data.max_history
        self.k = min(settings.list_length, model.schema.items - 2)
        self.simulated_events = settings.simulated_events
        self.item_ids = Lookup(vocabularies[ITEMS])
        self.item_names = ReverseLookup(vocabularies[ITEMS])
        self.value_ids = {
            f.name: Lookup(vocabularies[f.name]) for f in self.schema.features if not f.is_numeric
        }

    def endpoints(self):
        """{name: (function, input signature)} for an export archive."""
        strings = lambda name: tf.TensorSpec([None, None], tf.string, name=name)
        examples = [tf.TensorSpec([None], tf.string, name=EXAMPLES)]
        profile = {f.name: _input_spec(f) for f in self.schema.features}
        return {
            WARM: (self.warm, [strings(HISTORY), strings(EXCLUDE)]),
            COLD: (self.cold, [{**profile, EXCLUDE: strings(EXCLUDE)}]),
            SERVING_DEFAULT: (self.serving_default, examples),
            USER_EMBEDDING: (self.user_embedding, examples),
        }

    def warm(self, history, exclude):
        """history, exclude string [B, ?] ("" pads) -> item_ids, scores [B, K].

        A row without a known item has no state and gets the most popular items, all with score 0.
        """
        ids = self.item_ids(history)
        states = self.model.warm_states(self._padded(tf.RaggedTensor.from_tensor(ids)))
        return self._lists(states, tf.concat([ids, self.item_ids(exclude)], axis=1))

    def cold(self, inputs):
        """User features by name and exclude string [B, ?] -> item_ids, scores [B, K]."""
        features = {}
        for feature in self.schema.features:
            values = inputs[feature.name]
            values = values if len(values.shape) == 2 else values[:, None]
            features[feature.name] = self._values(feature, values)
        return self._lists(self.model.cold_states(features), self.item_ids(inputs[EXCLUDE]))

    def serving_default(self, examples):
        """Serialized user records [B] -> item_ids, scores [B, K] and is_cold bool [B]."""
        batch, history = self._parse(examples)
        lists = self._lists(self._states(batch), history)
        return {**lists, IS_COLD: batch["is_cold"]}

    def user_embedding(self, examples):
        """Serialized user records [B] -> embedding [B, D], the state that scores items."""
        batch, _ = self._parse(examples)
        return {EMBEDDING: ops.cast(self._states(batch), "float32")}

    def _states(self, batch):
        """States [B, D]: by Eq. (13), or blended by the number of known items."""
        if not self.simulated_events:
            return self.model(batch, training=False)
        share = hybrid.share_of(batch["history"], self.simulated_events)
        return hybrid.blended(*self.model.warm_and_cold_states(batch), share)

    def _parse(self, examples):
        """Serialized records -> a model batch, and all known item ids of the history [B, n]."""
        spec = {
            f.name: tf.io.RaggedFeature(tf.float32 if f.is_numeric else tf.string)
            for f in self.schema.features
        }
        parsed = tf.io.parse_example(examples, {**spec, HISTORY: tf.io.RaggedFeature(tf.string)})
        ids = tf.ragged.map_flat_values(self.item_ids, parsed[HISTORY])
        features = {}
        for feature in self.schema.features:
            values = parsed[feature.name]
            if not feature.is_numeric:
                lookup = lambda flat, feature=feature: self._values(feature, flat)
                values = tf.ragged.map_flat_values(lookup, values)
            features[feature.name] = parsing.dense_feature(feature, values)
        history = self._padded(ids)
        # Eq. (12): nothing known in the history is the same as no history.
        batch = {
            "history": history,
            "features": features,
            "is_cold": tf.reduce_all(history == PAD, axis=1),
        }
        return batch, ids.to_tensor(PAD)

    def _values(self, feature, values):
        if feature.is_numeric:
            return values
        return self.value_ids[feature.name](clean(feature, values))

    def _padded(self, ids):
        return parsing.left_pad(ids, self.length)

    def _lists(self, states, excluded):
        scores = ranking.shut_out(self.model.score(states), excluded)
        scores, ids = ranking.top_k(scores, self.k)
        return {
            ITEM_IDS: self.item_names(ids),
            SCORES: ops.where(ids == PAD, LOWEST, scores),
        }


def _input_spec(feature):
    if feature.is_numeric:
        shape = [None, feature.numbers] if feature.numbers > 1 else [None]
        return tf.TensorSpec(shape, tf.float32, name=feature.name)
    shape = [None, None] if feature.kind == MULTI else [None]
    return tf.TensorSpec(shape, tf.string, name=feature.name)
