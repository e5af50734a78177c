"""Makes random requests for every signature of a model from the model's warmup requests."""

from __future__ import annotations

import base64
import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import EXAMPLES, EXCLUDE, HISTORY
from serving import contract, tensor_protos, versions


class RequestMaker:
    """Makes requests of synthetic users, whose histories are random items of random length.

    Args:
        templates: `{signature: {input: array with at least one row}}`.
        model_name: model that the requests name.
        seed: seeds the histories; the same seed makes the same requests.
    """

    def __init__(
        self, templates: Mapping[str, Mapping[str, np.ndarray]], model_name: str, seed: int = 0
    ):
        self._templates, self.model_name = templates, model_name
        self._rng = np.random.default_rng(seed)
        items = templates[contract.WARM][HISTORY]
        self._items = sorted({item for item in items.ravel() if item})

    @classmethod
    def from_warmup(
        cls, model_base_path: str | os.PathLike[str], model_name: str, seed: int = 0
    ) -> RequestMaker:
        """Takes the templates from the warmup requests of the newest version.

        Raises:
            InputError: there is no version, or it has no warmup requests.
        """
        import tensorflow as tf

        version, folder = versions.latest(model_base_path)
        path = pathlib.Path(folder) / contract.WARMUP_FILE
        if not path.is_file():
            raise InputError(
                path,
                f"version {version} must contain warmup requests, which the load is made from",
                "Export it with cmclrec.",
            )
        templates = {}
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            # A signature's last request has the most rows, and so the most kinds of users.
            templates[request.model_spec.signature_name] = {
                name: tensor_protos.decode(proto) for name, proto in request.inputs.items()
            }
        return cls(templates, model_name, seed)

    @property
    def signatures(self) -> list[str]:
        """The signatures that have a template, in the order of `contract.SIGNATURES`."""
        return [name for name in contract.SIGNATURES if name in self._templates]

    def make(self, signature: str, rows: int) -> predict_pb2.PredictRequest:
        """Returns a request for `rows` users."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        for name, template in self._templates[signature].items():
            if name == EXAMPLES:
                array = np.array([self._record(template, row) for row in range(rows)], object)
            elif name == HISTORY:
                array = self._histories(rows)
            elif name == EXCLUDE:
                array = np.full((rows, 1), b"", object)
            else:
                array = template[np.arange(rows) % len(template)]
            tensor_protos.encode(array, request.inputs[name])
        return request

    def _history(self) -> list[bytes]:
        length = self._rng.integers(1, len(self._items) + 1)
        return [self._items[i] for i in self._rng.integers(len(self._items), size=length)]

    def _histories(self, rows: int) -> np.ndarray:
        histories = [self._history() for _ in range(rows)]
        width = max(map(len, histories))
        padded = [history + [b""] * (width - len(history)) for history in histories]
        return np.array(padded, object)

    def _record(self, templates: np.ndarray, row: int) -> bytes:
        """Returns a user record; about half of the records have a history."""
        from tensorflow.core.example import example_pb2

        record = example_pb2.Example.FromString(templates[row % len(templates)])
        del record.features.feature[HISTORY].bytes_list.value[:]
        if self._rng.random() < 0.5:
            record.features.feature[HISTORY].bytes_list.value.extend(self._history())
        return record.SerializeToString()


def as_json(request: predict_pb2.PredictRequest) -> bytes:
    """Returns the REST body of a PredictRequest, with its inputs as columns."""
    inputs = {}
    for name, proto in request.inputs.items():
        array = tensor_protos.decode(proto)
        if array.dtype == object:
            flat = np.empty(array.size, object)
            flat[:] = [_text(value) for value in array.ravel()]
            array = flat.reshape(array.shape)
        inputs[name] = array.tolist()
    body = {"signature_name": request.model_spec.signature_name, "inputs": inputs}
    if request.output_filter:
        body["output_filter"] = list(request.output_filter)
    return json.dumps(body).encode()


def _text(value: bytes) -> str | dict[str, str]:
    """Returns UTF-8 as it is, and anything else (such as a user record) in base64."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
