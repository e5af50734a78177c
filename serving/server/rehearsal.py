"""What a version must answer before it takes traffic."""

import pathlib

import numpy as np

from cmclrec_tf.errors import InputError, ReadableError
from serving.contract import WARMUP_FILE
from serving.server import requests
from serving.tensor_protos import KINDS, STRING


def rehearse(folder, session, limits):
    """Asks the warmup requests that an export carries, or else one empty user a signature.

    A SavedModel without its variables loads all the same; only asking it tells.

    Args:
        folder: the SavedModel.
        session: `SavedModelSession`.
        limits: `Limits`.

    Returns:
        How many requests were asked.

    Raises:
        InputError: a request that cannot be read or that the model cannot answer.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    path = pathlib.Path(folder) / WARMUP_FILE
    asked = 0
    try:
        for name, inputs in _recorded(path, session, limits) if path.is_file() else _empty(session):
            session.run(name, inputs)
            asked += 1
    except (ReadableError, requests.RequestError, tf.errors.DataLossError, DecodeError) as error:
        raise InputError(
            path if path.is_file() else folder,
            f"the model must answer its warmup requests ({error})",
            "Export the model again.",
        ) from error
    return asked


def _recorded(path, session, limits):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        asked = request.model_spec.signature_name
        name, signature = requests.signature(session.signatures, asked)
        yield name, requests.inputs(signature, request.inputs, requests.tensor, limits)


def _empty(session):
    """(signature, inputs) of one user of whom nothing is known, where the types allow one."""
    for name, signature in session.signatures.items():
        inputs = {}
        for key, info in signature.inputs.items():
            if info.dtype in KINDS and not info.tensor_shape.unknown_rank:
                shape = [abs(dim.size) for dim in info.tensor_shape.dim]
                value = b"" if info.dtype == STRING else 0
                inputs[key] = np.full(shape, value, KINDS[info.dtype].dtype)
        if len(inputs) == len(signature.inputs):
            yield name, inputs
