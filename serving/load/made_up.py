"""Requests of every signature, made of what a model itself tells."""

import base64
import json
import pathlib

import numpy as np
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import EXAMPLES, EXCLUDE, HISTORY
from serving import tensor_protos, versions
from serving.contract import SIGNATURES, WARM, WARMUP_FILE


class Requests:
    """Makes requests that look like users': histories of random items, oldest first.

    Args:
        templates: `{signature: {input: array with at least one row}}`.
        model_name: that the requests ask for.
        seed: the same seed makes the same requests.
    """

    def __init__(self, templates, model_name, seed=0):
        self._templates, self.model_name = templates, model_name
        self._rng = np.random.default_rng(seed)
        known = templates[WARM][HISTORY]
        self._items = sorted({item for item in known.ravel() if item})

    @classmethod
    def of_warmup(cls, model_base_path, model_name, seed=0):
        """From the warmup requests of the newest version.

        Raises:
            InputError: no version, or one without warmup requests.
        """
        import tensorflow as tf

        version, folder = versions.latest(model_base_path)
        path = pathlib.Path(folder) / WARMUP_FILE
        if not path.is_file():
            raise InputError(
                path,
                f"version {version} must carry warmup requests to make a load from",
                "Export it with cmclrec.",
            )
        templates = {}
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            # The last one of a signature has the most rows, and so the most kinds of users.
            templates[request.model_spec.signature_name] = {
                name: tensor_protos.decode(proto) for name, proto in request.inputs.items()
            }
        return cls(templates, model_name, seed)

    @property
    def signatures(self):
        """Those that can be asked, in the order of `SIGNATURES`."""
        return [name for name in SIGNATURES if name in self._templates]

    def make(self, signature, rows):
        """A PredictRequest of `rows` users."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        for name, array in self._templates[signature].items():
            if name == EXAMPLES:
                drawn = np.array([self._record(array, row) for row in range(rows)], object)
            elif name == HISTORY:
                drawn = self._histories(rows)
            elif name == EXCLUDE:
                drawn = np.full((rows, 1), b"", object)
            else:
                drawn = array[np.arange(rows) % len(array)]
            tensor_protos.encode(drawn, request.inputs[name])
        return request

    def _history(self):
        length = self._rng.integers(1, len(self._items) + 1)
        return [self._items[i] for i in self._rng.integers(len(self._items), size=length)]

    def _histories(self, rows):
        drawn = [self._history() for _ in range(rows)]
        width = max(map(len, drawn))
        return np.array([history + [b""] * (width - len(history)) for history in drawn], object)

    def _record(self, templates, row):
        """Every other record has a history."""
        from tensorflow.core.example import example_pb2

        record = example_pb2.Example.FromString(templates[row % len(templates)])
        del record.features.feature[HISTORY].bytes_list.value[:]
        if self._rng.random() < 0.5:
            record.features.feature[HISTORY].bytes_list.value.extend(self._history())
        return record.SerializeToString()


def as_json(request):
    """The body of a PredictRequest for the REST interface, column by column, as bytes."""
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


def _text(value):
    """Records, and ids that are no UTF-8, travel in base64."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
