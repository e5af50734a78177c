"""Requests made and answers read, without a connection; what every client says to a server."""

import dataclasses

from google.protobuf.message import Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from cmclrec_tf.errors import InputError
from serving import tensor_protos
from serving.client.answers import Recommendations
from serving.contract import COLD, IS_COLD, ITEM_IDS, SCORES, SERVING_DEFAULT, WARM

_LISTS = (ITEM_IDS, SCORES)
_MOST_VERSION = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Call:
    """One request of a server.

    Attributes:
        what: is asked, in messages.
        method: of TensorFlow Serving's services.
        request: its message.
    """

    what: str
    method: str
    request: Message


@dataclasses.dataclass(frozen=True)
class Model:
    """The model that a client asks.

    Attributes:
        name: that it is served under.
        version, label: one of them pins a version; the server chooses when both are None.

    Raises:
        InputError: a version and a label, or a version that is no number of a version.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self):
        if self.version is not None and self.label:
            raise InputError(
                f"version {self.version} and label {self.label!r}",
                "a request names one of them",
                "Leave one out.",
            )
        is_number = isinstance(self.version, int) and not isinstance(self.version, bool)
        if self.version is not None and not (is_number and 0 <= self.version <= _MOST_VERSION):
            raise InputError(
                f"version={self.version!r}", "it must be a whole number from 0", "Correct it."
            )

    def predict(self, signature, inputs):
        """Asks a signature for lists.

        Args:
            signature: its name.
            inputs: `{name: array}`, strings as object arrays of bytes.
        """
        wanted = [*_LISTS, IS_COLD] if signature == SERVING_DEFAULT else _LISTS
        request = predict_pb2.PredictRequest(output_filter=wanted)
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            tensor_protos.encode(array, request.inputs[name])
        return self._call(signature, "Predict", request)

    def metadata(self):
        """Asks for the signatures."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        return self._call("metadata", "GetModelMetadata", request)

    def status(self):
        """Asks for the versions and their states."""
        request = get_model_status_pb2.GetModelStatusRequest()
        return self._call("status", "GetModelStatus", request)

    def _call(self, what, method, request):
        request.model_spec.name = self.name
        if self.version is not None:
            request.model_spec.version.value = self.version
        elif self.label:
            request.model_spec.version_label = self.label
        return Call(what, method, request)


def recommendations(response, signature, k, excluded):
    """The lists of a `PredictResponse`.

    Args:
        response: the answer.
        signature: that was asked.
        k: length of the lists; None leaves them as they are.
        excluded: one collection of item ids (bytes) a row, left out before the lists are cut.

    Raises:
        ValueError: an answer of other rows or tensors than were asked for.
    """
    ids, scores = (tensor_protos.decode(response.outputs[name]).tolist() for name in _LISTS)
    known = {WARM: False, COLD: True}.get(signature)
    is_cold = [known] * len(ids)
    if signature == SERVING_DEFAULT:
        is_cold = tensor_protos.decode(response.outputs[IS_COLD]).tolist()
    spec = response.model_spec
    version = spec.version.value if spec.HasField("version") else None
    return [
        Recommendations(*_cut(row, values, k, hidden), version, signature, cold)
        for row, values, cold, hidden in zip(ids, scores, is_cold, excluded, strict=True)
    ]


def _cut(ids, scores, k, hidden):
    """One row without the "" at its end and what is hidden, as long as the caller wants it."""
    kept = [pair for pair in zip(ids, scores, strict=True) if pair[0] and pair[0] not in hidden]
    names = tuple(item.decode("utf-8", "surrogateescape") for item, _ in kept[:k])
    return names, tuple(score for _, score in kept[:k])


def signatures(response):
    """{signature: SignatureDef} of a `GetModelMetadataResponse`.

    Raises:
        ValueError: there is none in it.
    """
    found = get_model_metadata_pb2.SignatureDefMap()
    if not response.metadata["signature_def"].Unpack(found):
        raise ValueError("no signatures")
    return dict(found.signature_def)


def states(response):
    """{version: state} of a `GetModelStatusResponse`."""
    name = get_model_status_pb2.ModelVersionStatus.State.Name
    return {status.version: name(status.state) for status in response.model_version_status}
