"""Warmup requests: what TensorFlow Serving runs before a version takes traffic."""

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from cmclrec_tf.data import vocabulary
from cmclrec_tf.schema import EXAMPLES, EXCLUDE, HISTORY, ITEMS, MULTI
from serving.contract import COLD, SERVING_DEFAULT, USER_EMBEDDING, WARM, WARMUP_FILE

BATCH_SIZES = (1, 32)


def write(folder, dataset) -> None:
    """Writes one request per signature and batch size, made from the vocabularies alone.

    Args:
        folder: of the SavedModel.
        dataset: `PreparedDataset`.
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


def requests(dataset, batch_size):
    """{signature: {input: array}} of users who have the commonest items and feature values."""
    items = vocabulary.read(dataset.vocabularies[ITEMS])[: dataset.max_history]
    history = np.array([items] * batch_size, object)
    nothing = np.empty((batch_size, 0), object)
    profile, features = {}, {EXCLUDE: nothing}
    for feature in dataset.schema.features:
        if feature.is_numeric:
            value = np.float32(feature.mean)
            shape = [batch_size, feature.numbers] if feature.numbers > 1 else [batch_size]
            features[feature.name] = np.full(shape, value, np.float32)
            known = tf.train.FloatList(value=[value] * feature.numbers)
            profile[feature.name] = tf.train.Feature(float_list=known)
        else:
            tokens = vocabulary.read(dataset.vocabularies[feature.name])
            value = tokens[0] if tokens else ""
            shape = [batch_size, 1] if feature.kind == MULTI else [batch_size]
            features[feature.name] = np.full(shape, value, object)
            profile[feature.name] = _bytes([value])
    records = [
        tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()
        for fields in ({**profile, HISTORY: _bytes(items)}, profile)
    ]
    examples = {EXAMPLES: np.array([records[i % 2] for i in range(batch_size)], object)}
    return {
        WARM: {HISTORY: history, EXCLUDE: nothing},
        COLD: features,
        SERVING_DEFAULT: examples,
        USER_EMBEDDING: examples,
    }


def _request(name, inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = name
    for key, array in inputs.items():
        kind = tf.string if array.dtype == object else tf.float32
        values = [vocabulary.encode(v) if isinstance(v, str) else v for v in array.ravel()]
        request.inputs[key].CopyFrom(tf.make_tensor_proto(values, kind, array.shape))
    return request


def _bytes(tokens):
    values = tf.train.BytesList(value=[vocabulary.encode(token) for token in tokens])
    return tf.train.Feature(bytes_list=values)
