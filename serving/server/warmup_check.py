"""Checks that a loaded version answers its warmup requests before it takes traffic."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cmclrec_tf.errors import InputError, ReadableError
from serving.contract import WARMUP_FILE
from serving.server import requests
from serving.tensor_protos import KINDS, STRING

if TYPE_CHECKING:
    from serving.c_api.session import SavedModelSession
    from serving.server.limits import Limits


def check_warmup(folder: str | os.PathLike[str], session: SavedModelSession, limits: Limits) -> int:
    """Runs the warmup requests of an export, or else one empty user per signature.

    A SavedModel without its variables loads without an error and only fails when it is run.

    Args:
        folder: the SavedModel.
        session: the loaded SavedModel.
        limits: limits that the requests must respect.

    Returns:
        The number of requests that were run.

    Raises:
        InputError: a request cannot be read or the model cannot answer it.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    path = pathlib.Path(folder) / WARMUP_FILE
    count = 0
    try:
        pairs = _recorded(path, session, limits) if path.is_file() else _empty(session)
        for name, inputs in pairs:
            session.run(name, inputs)
            count += 1
    except (ReadableError, requests.RequestError, tf.errors.DataLossError, DecodeError) as error:
        raise InputError(
            path if path.is_file() else folder,
            f"the model must answer its warmup requests ({error})",
            "Export the model again.",
        ) from error
    return count


def _recorded(
    path: pathlib.Path, session: SavedModelSession, limits: Limits
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields (signature, inputs) of the requests in a warmup file."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name, signature = requests.signature(session.signatures, request.model_spec.signature_name)
        yield name, requests.inputs(signature, request.inputs, requests.decode_tensor, limits)


def _empty(session: SavedModelSession) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yields (signature, inputs) of a user without data, if all input types can express one."""
    for name, signature in session.signatures.items():
        inputs = {}
        for key, info in signature.inputs.items():
            if info.dtype in KINDS and not info.tensor_shape.unknown_rank:
                shape = [abs(dim.size) for dim in info.tensor_shape.dim]
                value = b"" if info.dtype == STRING else 0
                inputs[key] = np.full(shape, value, KINDS[info.dtype].dtype)
        if len(inputs) == len(signature.inputs):
            yield name, inputs
