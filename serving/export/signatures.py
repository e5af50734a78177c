"""Defines the signatures of the served model, which take and return strings."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from cmclrec_tf.config import ServeConfig
from cmclrec_tf.data import parsing
from cmclrec_tf.data.vocabulary import Lookup, ReverseLookup
from cmclrec_tf.models import ranking
from cmclrec_tf.models.cmclrec import CMCLRec
from cmclrec_tf.schema import EXAMPLES, EXCLUDE, FIRST_ID, HISTORY, ITEMS, PAD
from cmclrec_tf.types import FloatBD, IdsBN, Tensor, Users
from serving.contract import (
    COLD,
    EMBEDDING,
    IS_COLD,
    ITEM_IDS,
    KNOWN_ITEMS,
    LOWEST_SCORE,
    NEAREST_ITEMS,
    SCORES,
    SERVING_DEFAULT,
    SIMULATED_HISTORY,
    USER_EMBEDDING,
    WARM,
)
from serving.export.feature_inputs import FeatureInputs
from serving.export.nearest_items import nearest_items

_Signature = Callable[..., dict[str, Tensor]]


class Signatures(tf.Module):
    """The signatures of a trained `CMCLRec`, each a function of tensors.

    Items of `exclude` never come back, nor do those of the history unless `hides_history` is
    False. Where fewer than K items are left, a list ends in "" with the lowest float32 as score. An
    unknown value of a user feature counts as missing; unknown items of a history are dropped.

    Args:
        model: a trained model.
        vocabularies: paths of the vocabulary files, by the names in `Schema.vocabularies`.
        settings: the list length.
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
        items = model.schema.items - FIRST_ID
        self.k, self.nearest = min(settings.list_length, items), min(NEAREST_ITEMS, items)
        self.hides_history = hides_history
        self.item_ids = Lookup(vocabularies[ITEMS])
        self.item_names = ReverseLookup(vocabularies[ITEMS])
        self.features = FeatureInputs(self.schema, vocabularies)

    def endpoints(self) -> dict[str, tuple[_Signature, list[Any]]]:
        """Returns `{name: (function, input signature)}` for an export archive."""
        examples = [tf.TensorSpec([None], tf.string, name=EXAMPLES)]
        features = self.features.specs()
        endpoints: dict[str, tuple[_Signature, list[Any]]] = {
            WARM: (self.warm, [_strings_spec(HISTORY), _strings_spec(EXCLUDE)]),
            COLD: (self.cold, [{**features, EXCLUDE: _strings_spec(EXCLUDE)}]),
            SERVING_DEFAULT: (self.serving_default, examples),
            USER_EMBEDDING: (self.user_embedding, examples),
            SIMULATED_HISTORY: (self.simulated_history, [features]),
        }
        # Each read of a variable is an operation, so vectors, such as biases, become constants.
        # Matrices stay variables: a constant of each signature takes memory of its own, and
        # products with constant matrices take longer.
        vectors = [(v, v.numpy()) for v in self.model.variables if len(v.shape) == 1]
        return {name: (_with(vectors, call), spec) for name, (call, spec) in endpoints.items()}

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
        known = self.item_ids(tf.concat([history, exclude], axis=1))
        ids, excluded = known[:, : tf.shape(history)[1]], known[:, tf.shape(history)[1] :]
        newest = parsing.newest_known(ids, self.length)
        has_items = ops.any(newest != PAD, axis=1)[:, None]
        # The weights of the popularity prior correct a state. Alone they say nothing.
        states = ops.where(has_items, self.model.warm_states(newest), 0.0)
        hidden = known if self.hides_history else excluded
        return {**self._lists(states, hidden), KNOWN_ITEMS: _known_items(ids)}

    def cold(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Recommends items from user features.

        Args:
            inputs: user features by name, [B] or [B, N], where "" or NaN stands for a missing
                value, and `exclude` string [B, N].

        Returns:
            `item_ids` string [B, K] and `scores` float32 [B, K].
        """
        states = self.model.cold_states(self.features.of_request(inputs))
        return self._lists(states, self.item_ids(inputs[EXCLUDE]))

    def serving_default(self, examples: Tensor) -> dict[str, Tensor]:
        """Recommends items to the users of serialized records, string [B].

        The history and the user features of a record count together. A record without a known item
        gets the list of `cold`.

        Returns:
            `item_ids` string [B, K], `scores` float32 [B, K], `is_cold` bool [B] and
            `known_items` int32 [B], the number of items of the history that the model knows.
        """
        users, history = self._parse(examples)
        lists = self._lists(self.model(users, training=False), self._hidden(history))
        return {**lists, IS_COLD: users["is_cold"], KNOWN_ITEMS: _known_items(history)}

    def user_embedding(self, examples: Tensor) -> dict[str, Tensor]:
        """Returns the states [B, D] of serialized records, as `embedding` float32."""
        users, _ = self._parse(examples)
        return {EMBEDDING: ops.cast(self.model(users, training=False), "float32")}

    def simulated_history(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the real items that are nearest to the simulated history of user features.

        Args:
            inputs: user features by name, as in `cold`.

        Returns:
            `item_ids` string [B, S, N] and `scores` float32 [B, S, N] of the N nearest items to
            each of the S simulated positions that the backbone reads; the oldest position and the
            nearest item come first. A score is the cosine between the simulated vector and the
            embedding of the item.
        """
        simulated = self.model.simulated(self.features.of_request(inputs))
        scores, ids = nearest_items(simulated, self.model.table, self.nearest)
        return {ITEM_IDS: self.item_names(ids), SCORES: scores}

    def _parse(self, examples: Tensor) -> tuple[Users, IdsBN]:
        """Returns the users of serialized records, and the ids of their whole histories.

        The model reads the newest L items; the whole history is hidden from the lists.
        """
        spec = {**self.features.example_spec(), HISTORY: tf.io.RaggedFeature(tf.string)}
        parsed = tf.io.parse_example(examples, spec)
        ids = tf.ragged.map_flat_values(self.item_ids, parsed[HISTORY]).to_tensor(PAD)
        features = self.features.of_records(parsed)
        history = parsing.newest_known(ids, self.length)
        # Eq. (12): a history without a known item counts as no history.
        is_cold = tf.reduce_all(history == PAD, axis=1)
        users: Users = {"history": history, "features": features, "is_cold": is_cold}
        return users, ids

    def _hidden(self, history: IdsBN) -> IdsBN:
        """Returns the items of histories [B, N] that are left out of the lists: all, or none."""
        return history if self.hides_history else history[:, :0]

    def _lists(self, states: FloatBD, excluded: IdsBN) -> dict[str, Tensor]:
        scores = ranking.exclude(self.model.products(states), excluded)  # masks PAD and OOV
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


def _with(constants: list[tuple[keras.Variable, Any]], function: _Signature) -> _Signature:
    """Returns a signature that reads constants in the place of some variables."""

    @functools.wraps(function)
    def frozen(*inputs: Any) -> dict[str, Tensor]:
        with keras.StatelessScope(constants):
            return function(*inputs)

    return frozen
