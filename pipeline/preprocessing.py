"""Maps the strings of user records to ids for the Transform component."""

import json
from typing import TYPE_CHECKING

import tensorflow as tf
import tensorflow_transform as tft

from cmclrec_tf.data import dates
from cmclrec_tf.data.vocabulary import clean, cross
from cmclrec_tf.schema import (
    CROSS,
    DATE,
    FIRST_ID,
    HISTORY,
    HISTORY_TIME,
    ITEMS,
    OOV,
    SEGMENT,
    TARGET,
    TARGET_TIME,
    USER_ID,
    Feature,
    Schema,
)

if TYPE_CHECKING:
    from pipeline.datasets import DatasetSpec

FEATURES = "features"
MOST = "most"
LEAST = "least"


def custom_config(spec: "DatasetSpec", sources: str) -> dict[str, str]:
    """Returns the settings of `preprocessing_fn`. All of them are part of the cache key.

    Args:
        spec: the dataset's spec, with the user features.
        sources: digest of the code that maps strings to ids.
    """
    features = json.dumps(Schema(spec.features).to_dict()["features"])
    most = {c.name: c.most_values for c in spec.users.features if c.most_values}
    least = {c.name: c.min_users for c in spec.users.features if c.min_users}
    return {
        FEATURES: features,
        MOST: json.dumps(most),
        LEAST: json.dumps(least),
        "sources": sources,
    }


def preprocessing_fn(
    inputs: dict[str, tf.SparseTensor], custom_config: dict[str, str]
) -> dict[str, tf.SparseTensor]:
    """Maps raw user records to transformed ones, with vocabularies of the train split.

    Items and string features become int64 ids: line i of the vocabulary has the id FIRST_ID + i,
    and a string that is not in the vocabulary has the id OOV. Dates become days since 1970. All
    else stays as it is: a model transforms numbers itself, see `cmclrec_tf.data.numeric`.

    Args:
        inputs: `{field: SparseTensor [B, ?]}` of raw user records.
        custom_config: the settings, see the function of this name. The vocabulary of a feature in
            `most` holds only that many of its most frequent values, and that of one in `least`
            only values that so many train users have.

    Returns:
        `{field: SparseTensor [B, ?]}` of transformed user records.
    """
    features = tuple(Feature(**values) for values in json.loads(custom_config[FEATURES]))
    most, least = json.loads(custom_config[MOST]), json.loads(custom_config[LEAST])
    consumed = tf.sparse.concat(axis=1, sp_inputs=[inputs[HISTORY], inputs[TARGET]])
    items = tft.vocabulary(consumed, vocab_filename=ITEMS)
    outputs = {
        USER_ID: inputs[USER_ID],
        SEGMENT: inputs[SEGMENT],
        HISTORY: _ids(inputs[HISTORY], items),
        HISTORY_TIME: inputs[HISTORY_TIME],
        TARGET: _ids(inputs[TARGET], items),
        TARGET_TIME: inputs[TARGET_TIME],
    }
    cleaned = {
        f.name: inputs[f.name].with_values(clean(f, inputs[f.name].values))
        for f in features
        if f.is_text and f.kind != CROSS
    }
    for feature in features:
        if feature.kind == DATE:
            texts = cleaned[feature.name]
            outputs[feature.name] = texts.with_values(dates.days(texts.values))
        elif feature.is_numeric:
            outputs[feature.name] = inputs[feature.name]
        else:
            parts = [cleaned[name] for name in feature.of]
            values = _cross(parts) if parts else cleaned[feature.name]
            tokens = tft.vocabulary(
                values,
                top_k=most.get(feature.name),
                frequency_threshold=least.get(feature.name),
                vocab_filename=feature.name,
            )
            outputs[feature.name] = _ids(values, tokens)
    return outputs


def _cross(parts):
    """Returns the values of a cross, SparseTensor [B, 1]; each part has at most one per row."""
    # A batch in which no user has a value still gets one column.
    columns = [tf.pad(tf.sparse.to_dense(part, ""), [[0, 0], [0, 1]])[:, :1] for part in parts]
    return tf.sparse.from_dense(cross(columns))


def _ids(tokens, vocabulary):
    lines = tft.apply_vocabulary(tokens, vocabulary, default_value=-1).values
    return tokens.with_values(tf.where(lines < 0, tf.cast(OOV, tf.int64), lines + FIRST_ID))
