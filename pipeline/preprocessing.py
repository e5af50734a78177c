"""Maps the strings of user records to ids for the Transform component."""

import json
from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft

from cmclrec_tf.data.vocabulary import clean
from cmclrec_tf.schema import (
    FIRST_ID,
    HISTORY,
    ITEMS,
    OOV,
    SEGMENT,
    TARGET,
    USER_ID,
    Feature,
    Schema,
)

if TYPE_CHECKING:
    from pipeline.datasets import DatasetSpec

FEATURES = "features"
MOST = "most"


def custom_config(spec: "DatasetSpec", sources: str) -> dict[str, str]:
    """Returns the settings of `preprocessing_fn`. All of them are part of the cache key.

    Args:
        spec: the dataset's spec, with the user features.
        sources: digest of the code that maps strings to ids.
    """
    features = json.dumps(Schema(spec.features).to_dict()["features"])
    most = {c.name: c.most_values for c in spec.users.features if c.most_values}
    return {FEATURES: features, MOST: json.dumps(most), "sources": sources}


def preprocessing_fn(
    inputs: dict[str, tf.SparseTensor], custom_config: dict[str, str]
) -> dict[str, tf.SparseTensor]:
    """Maps raw user records to transformed ones, with vocabularies of the train split.

    Items and string features become int64 ids: line i of the vocabulary has the id FIRST_ID + i,
    and a string that is not in the vocabulary has the id OOV. All else stays as it is.

    Args:
        inputs: `{field: SparseTensor [B, ?]}` of raw user records.
        custom_config: the settings, see the function of this name. The vocabulary of a feature in
            `most` holds only that many of its most frequent values.

    Returns:
        `{field: SparseTensor [B, ?]}` of transformed user records.
    """
    features = tuple(Feature(**values) for values in json.loads(custom_config[FEATURES]))
    most = json.loads(custom_config[MOST])
    consumed = tf.sparse.concat(axis=1, sp_inputs=[inputs[HISTORY], inputs[TARGET]])
    items = tft.vocabulary(consumed, vocab_filename=ITEMS)
    outputs = {
        USER_ID: inputs[USER_ID],
        SEGMENT: inputs[SEGMENT],
        HISTORY: _ids(inputs[HISTORY], items),
        TARGET: _ids(inputs[TARGET], items),
    }
    for feature in features:
        values = inputs[feature.name]
        if not feature.is_numeric:
            values = values.with_values(clean(feature, values.values))
            top_k = most.get(feature.name)
            tokens = tft.vocabulary(values, top_k=top_k, vocab_filename=feature.name)
            values = _ids(values, tokens)
        outputs[feature.name] = values
    return outputs


def _ids(tokens, vocabulary):
    lines = tft.apply_vocabulary(tokens, vocabulary, default_value=-1).values
    return tokens.with_values(tf.where(lines < 0, tf.cast(OOV, tf.int64), lines + FIRST_ID))
