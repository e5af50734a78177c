"""Defines the four signatures of the served model, which take and return strings."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from keras import ops

from cmclrec_tf.config import ServeConfig
from cmclrec_tf.data import parsing
from cmclrec_tf.data.vocabulary import Lookup, ReverseLookup, clean
from cmclrec_tf.models import hybrid, ranking
from cmclrec_tf.models.cmclrec import CMCLRec
from cmclrec_tf.schema import EXAMPLES, EXCLUDE, FIRST_ID, HISTORY, ITEMS, MULTI, PAD, Feature
from cmclrec_tf.types import FloatBD, IdsBL, IdsBN, Tensor, Users
from serving.contract import (
    COLD,
    EMBEDDING,
    IS_COLD,
    ITEM_IDS,
    KNOWN_ITEMS,
    LOWEST_SCORE,
    SCORES,
    SERVING_DEFAULT,
    USER_EMBEDDING,
    WARM,
)


class Signatures(tf.Module):
    """The signatures of a trained `CMCLRec`, each a function of tensors.

    Items of `exclude` never come back, nor do those of the history unless `hides_history` is
    False. Where fewer than K items are left, a list ends in "" with the lowest float32 as score. An
    unknown value of a user feature counts as missing; unknown items of a history are dropped.

    Args:
        model: a trained model.
        vocabularies: paths of the vocabulary files, by the names in `Schema.vocabularies`.
        settings: the list length and the blending of the warm and the cold path.
        hides_history: whether items of the history are left out of the lists, see
            `EvaluateConfig.seen_items`.
    """

    def __init__(
        self,
        model: CMCLRec,
        vocabularies: Mapping[str, str],
        settings: ServeConfig,
        hides_history: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.schema = model.schema
        self.length = model.config.data.max_history
        self.k = min(settings.list_length, model.schema.items - FIRST_ID)
        self.simulated_events = settings.simulated_events
        self.hides_history = hides_history
        self.item_ids = Lookup(vocabularies[ITEMS])
        self.item_names = ReverseLookup(vocabularies[ITEMS])
        self.value_ids = {
            f.name: Lookup(vocabularies[f.name]) for f in self.schema.features if not f.is_numeric
        }

    def endpoints(self) -> dict[str, tuple[Callable[..., dict[str, Tensor]], list[Any]]]:
        """Returns `{name: (function, input signature)}` for an export archive."""
        examples = [tf.TensorSpec([None], tf.string, name=EXAMPLES)]
        features = {f.name: _input_spec(f) for f in self.schema.features}
        return {
            WARM: (self.warm, [_strings_spec(HISTORY), _strings_spec(EXCLUDE)]),
            COLD: (self.cold, [{**features, EXCLUDE: _strings_spec(EXCLUDE)}]),
            SERVING_DEFAULT: (self.serving_default, examples),
            USER_EMBEDDING: (self.user_embedding, examples),
        }

    def warm(self, history: Tensor, exclude: Tensor) -> dict[str, Tensor]:
        """Recommends items from histories.

        A row without a known item has the state 0, so that all scores are 0. Among equal scores the
        lowest ids come first, and ids count from the most frequent item: it gets popular items.

        Args:
            history: string [B, N], oldest first, padded with "".
            exclude: string [B, N], padded with "".

        Returns:
            `item_ids` string [B, K], `scores` float32 [B, K] and `known_items` int32 [B], the
            number of items of the history that the model knows.
        """
        ids = self.item_ids(history)
        states = self.model.warm_states(self._padded(tf.RaggedTensor.from_tensor(ids)))
        hidden = tf.concat([self._hidden(ids), self.item_ids(exclude)], axis=1)
        return {**self._lists(states, hidden), KNOWN_ITEMS: _known_items(ids)}

    def cold(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Recommends items from user features.

        Args:
            inputs: user features by name, [B] or [B, N], where "" or NaN stands for a missing
                value, and `exclude` string [B, N].

        Returns:
            `item_ids` string [B, K] and `scores` float32 [B, K].
        """
        features = {}
        for feature in self.schema.features:
            values = inputs[feature.name]
            values = values if len(values.shape) == 2 else values[:, None]
            features[feature.name] = self._feature_inputs(feature, values)
        return self._lists(self.model.cold_states(features), self.item_ids(inputs[EXCLUDE]))

    def serving_default(self, examples: Tensor) -> dict[str, Tensor]:
        """Recommends items to the users of serialized records, string [B].

        Returns:
            `item_ids` string [B, K], `scores` float32 [B, K], `is_cold` bool [B] and
            `known_items` int32 [B], the number of items of the history that the model knows.
        """
        users, history = self._parse(examples)
        lists = self._lists(self._states(users), self._hidden(history))
        return {**lists, IS_COLD: users["is_cold"], KNOWN_ITEMS: _known_items(history)}

    def user_embedding(self, examples: Tensor) -> dict[str, Tensor]:
        """Returns the states [B, D] of serialized records, as `embedding` float32."""
        users, _ = self._parse(examples)
        return {EMBEDDING: ops.cast(self._states(users), "float32")}

    def _states(self, users: Users) -> FloatBD:
        """Returns states [B, D]: by Eq. (13), or blended by the number of known items.

        With `simulated_events` of 0 nothing is blended. `warm` and `cold` never blend.
        """
        if not self.simulated_events:
            return self.model(users, training=False)
        share = hybrid.cold_share(users["history"], self.simulated_events)
        return hybrid.blend(*self.model.warm_and_cold_states(users), share)

    def _parse(self, examples: Tensor) -> tuple[Users, IdsBN]:
        """Returns the users of serialized records, and the ids of their whole histories.

        The model reads the newest L items; the whole history is hidden from the lists.
        """
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
                lookup = lambda flat, feature=feature: self._feature_inputs(feature, flat)
                values = tf.ragged.map_flat_values(lookup, values)
            features[feature.name] = parsing.dense_feature(feature, values)
        history = self._padded(ids)
        # Eq. (12): a history without a known item counts as no history.
        is_cold = tf.reduce_all(history == PAD, axis=1)
        users: Users = {"history": history, "features": features, "is_cold": is_cold}
        return users, ids.to_tensor(PAD)

    def _feature_inputs(self, feature: Feature, values: Tensor) -> Tensor:
        """Returns ids of string values; numeric values as they are."""
        if feature.is_numeric:
            return values
        return self.value_ids[feature.name](clean(feature, values))

    def _padded(self, ids: tf.RaggedTensor) -> IdsBL:
        return parsing.left_pad(ids, self.length)

    def _hidden(self, history: IdsBN) -> IdsBN:
        """Returns the items of histories [B, N] that are left out of the lists: all, or none."""
        return history if self.hides_history else history[:, :0]

    def _lists(self, states: FloatBD, excluded: IdsBN) -> dict[str, Tensor]:
        scores = ranking.exclude(self.model.score(states), excluded)
        scores, ids = ranking.top_k(scores, self.k)
        return {
            ITEM_IDS: self.item_names(ids),
            SCORES: ops.where(ids == PAD, LOWEST_SCORE, scores),
        }


def _known_items(ids: IdsBN) -> Tensor:
    """Returns the number of known items of each row, int32 [B]; the model may read fewer."""
    return tf.reduce_sum(tf.cast(ids >= FIRST_ID, tf.int32), axis=1)


def _strings_spec(name: str) -> tf.TensorSpec:
    return tf.TensorSpec([None, None], tf.string, name=name)


def _input_spec(feature: Feature) -> tf.TensorSpec:
    if feature.is_numeric:
        shape = [None, feature.numbers] if feature.numbers > 1 else [None]
        return tf.TensorSpec(shape, tf.float32, name=feature.name)
    shape = [None, None] if feature.kind == MULTI else [None]
    return tf.TensorSpec(shape, tf.string, name=feature.name)
