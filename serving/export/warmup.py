"""Writes the warmup requests that TensorFlow Serving runs before a version takes traffic."""

import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from cmclrec_tf.data import vocabulary
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.schema import EXAMPLES, EXCLUDE, HISTORY, ITEMS, MULTI
from serving.contract import (
    COLD,
    SERVING_DEFAULT,
    SIMULATED_HISTORY,
    USER_EMBEDDING,
    WARM,
    WARMUP_FILE,
)

BATCH_SIZES = (1, 32)


def write(folder: str | os.PathLike[str], dataset: PreparedDataset) -> None:
    """Writes one request per signature and batch size, made from the vocabularies alone.

    Args:
        folder: folder of the SavedModel.
        dataset: the dataset with the vocabularies.
    """
    path = pathlib.Path(folder) / WARMUP_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch_size in BATCH_SIZES:
            for name, inputs in requests(dataset, batch_size).items():
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=_request(name, inputs))
                )
                writer.write(log.SerializeToString())


def requests(dataset: PreparedDataset, batch_size: int) -> dict[str, dict[str, NDArray[Any]]]:
    """Returns `{signature: {input: array}}` for users with the most common items and values.

    Every second record has a history, so both paths of `serving_default` are warmed up.
    """
    items = vocabulary.read(dataset.vocabularies[ITEMS])[: dataset.max_history]
    history = np.array([items] * batch_size, object)
    no_items = np.empty((batch_size, 0), object)
    fields: dict[str, tf.train.Feature] = {}
    features: dict[str, NDArray[Any]] = {}
    for feature in dataset.schema.inputs:
        if not feature.is_text:
            mean = np.float32(feature.mean)
            shape = [batch_size, feature.numbers] if feature.numbers > 1 else [batch_size]
            features[feature.name] = np.full(shape, mean, np.float32)
            numbers = tf.train.FloatList(value=[mean] * feature.numbers)
            fields[feature.name] = tf.train.Feature(float_list=numbers)
        else:
            known = dataset.vocabularies.get(feature.name)
            tokens = vocabulary.read(known) if known else [feature.as_of]
            token = tokens[0] if tokens else ""
            shape = [batch_size, 1] if feature.kind == MULTI else [batch_size]
            features[feature.name] = np.full(shape, token, object)
            fields[feature.name] = _bytes_feature([token])
    warm_record, cold_record = (
        tf.train.Example(features=tf.train.Features(feature=record)).SerializeToString()
        for record in ({**fields, HISTORY: _bytes_feature(items)}, fields)
    )
    records = [warm_record if i % 2 == 0 else cold_record for i in range(batch_size)]
    examples = {EXAMPLES: np.array(records, object)}
    return {
        WARM: {HISTORY: history, EXCLUDE: no_items},
        COLD: {**features, EXCLUDE: no_items},
        SERVING_DEFAULT: examples,
        USER_EMBEDDING: examples,
        SIMULATED_HISTORY: features,
    }


def _request(signature: str, inputs: dict[str, NDArray[Any]]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        dtype = tf.string if array.dtype == object else tf.float32
        values = [vocabulary.encode(v) if isinstance(v, str) else v for v in array.ravel()]
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype, array.shape))
    return request


def _bytes_feature(tokens: list[str]) -> tf.train.Feature:
    encoded = tf.train.BytesList(value=[vocabulary.encode(token) for token in tokens])
    return tf.train.Feature(bytes_list=encoded)
