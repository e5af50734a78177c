"""Warmup requests of an export, asked before a server takes traffic."""

import pathlib

from cmclrec_tf.errors import InputError, ReadableError
from serving.server import requests

# Where TensorFlow Serving looks for them.
FILE = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"


def rehearse(folder, session, limits):
    """Asks every warmup request that the export carries, if it carries any.

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
    from tensorflow_serving.apis import prediction_log_pb2

    path = pathlib.Path(folder) / FILE
    if not path.is_file():
        return 0
    asked = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            name, signature = requests.signature(
                session.signatures, request.model_spec.signature_name
            )
            session.run(name, requests.inputs(signature, request.inputs, requests.tensor, limits))
            asked += 1
    except (ReadableError, requests.RequestError, tf.errors.DataLossError, DecodeError) as error:
        raise InputError(
            path, f"the model must answer its warmup requests ({error})", "Export the model again."
        ) from error
    return asked
