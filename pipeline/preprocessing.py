"""What Transform does to user records: strings to ids, by vocabularies of the train split."""

import json

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

FEATURES = "features"
MOST = "most"


def custom_config(spec, sources):
    """The `custom_config` of Transform; every part of it is in the cache key.

    Args:
        spec: the `DatasetSpec`, whose user features `preprocessing_fn` reads.
        sources: digest of the code that maps strings to ids.
    """
    features = json.dumps(Schema(spec.features).to_dict()["features"])
    most = {c.name: c.most_values for c in spec.users.features if c.most_values}
    return {FEATURES: features, MOST: json.dumps(most), "sources": sources}


def preprocessing_fn(inputs, custom_config):
    """Maps raw user records to transformed ones.

    Args:
        inputs: `{field: SparseTensor [B, ?]}` of raw user records.
        custom_config: see `custom_config`.

    Returns:
        `{field: SparseTensor [B, ?]}`: user_id and segment as they are; history, target and string
        features as int64 ids (line i of the vocabulary has the id FIRST_ID + i, anything else is
        OOV); numeric features as they are. Of a feature in `most` only so many values, the most
        frequent ones, are in its vocabulary.
    """
    features = tuple(Feature(**values) for values in json.loads(custom_config[FEATURES]))
    consumed = tf.sparse.concat(axis=1, sp_inputs=[inputs[HISTORY], inputs[TARGET]])
    most = json.loads(custom_config[MOST])
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
            top = most.get(feature.name)
            tokens = tft.vocabulary(values, top_k=top, vocab_filename=feature.name)
            values = _ids(values, tokens)
        outputs[feature.name] = values
    return outputs


def _ids(tokens, vocabulary):
    lines = tft.apply_vocabulary(tokens, vocabulary, default_value=-1).values
    return tokens.with_values(tf.where(lines < 0, tf.cast(OOV, tf.int64), lines + FIRST_ID))
