"""Builds the messages that clients send to a server and reads the responses."""

import dataclasses
from collections.abc import Collection

from cmclrec_tf.errors import InputError
from serving import tensor_protos
from serving.client import protos
from serving.client.answers import Recommendations, SimulatedHistory
from serving.client.inputs import InputArray
from serving.client.protos import AnyMessage
from serving.client.users import Batch
from serving.contract import COLD, IS_COLD, ITEM_IDS, KNOWN_ITEMS, SCORES, SERVING_DEFAULT, WARM

_LISTS = (ITEM_IDS, SCORES)
_MAX_VERSION = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Call:
    """One request to a server.

    Attributes:
        name: name of the request in error messages.
        method: method of TensorFlow Serving's gRPC services.
        request: message to send.
    """

    name: str
    method: str
    request: AnyMessage


@dataclasses.dataclass(frozen=True)
class Model:
    """The model that a client uses.

    Attributes:
        name: name under which the model is served.
        version, label: number or label of the version to use. The server chooses the version when
            both are None.

    Raises:
        InputError: both a version and a label, or a version that is not a version number.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label:
            raise InputError(
                f"version {self.version} and label {self.label!r}",
                "a request names one of them",
                "Leave one out.",
            )
        is_number = isinstance(self.version, int) and not isinstance(self.version, bool)
        if self.version is not None and not (is_number and 0 <= self.version <= _MAX_VERSION):
            raise InputError(
                f"version={self.version!r}", "it must be a whole number from 0", "Correct it."
            )

    def predict(self, signature: str, inputs: dict[str, InputArray]) -> Call:
        """Returns the call that runs a signature.

        Args:
            signature: name of the signature.
            inputs: `{name: array}`; strings are object arrays of bytes.
        """
        # Without an output filter, so that models without `known_items` answer, too.
        request = protos.PredictRequest()
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            tensor_protos.encode(array, request.inputs[name])
        return self._call(signature, "Predict", request)

    def metadata(self) -> Call:
        """Returns the call that requests the signatures."""
        request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        return self._call("metadata", "GetModelMetadata", request)

    def status(self) -> Call:
        """Returns the call that requests the states of the versions."""
        request = protos.GetModelStatusRequest()
        return self._call("status", "GetModelStatus", request)

    def _call(self, name: str, method: str, request: AnyMessage) -> Call:
        request.model_spec.name = self.name
        if self.version is not None:
            request.model_spec.version.value = self.version
        elif self.label:
            request.model_spec.version_label = self.label
        return Call(name, method, request)


def recommendations(batch: Batch, response: AnyMessage, k: int | None) -> list[Recommendations]:
    """Returns the lists in a `PredictResponse`, one per user of a batch.

    `serving_default` has no input for items to exclude, so they are removed from its lists here.

    Args:
        batch: the users of the request.
        response: the server's response.
        k: length to which the lists are cut; None leaves them as they are.

    Raises:
        ValueError: the response has other rows or tensors than the request asks for.
    """
    ids, scores = (tensor_protos.decode(response.outputs[name]).tolist() for name in _LISTS)
    if batch.signature == SERVING_DEFAULT:
        is_cold = tensor_protos.decode(response.outputs[IS_COLD]).tolist()
    else:
        is_cold = [{WARM: False, COLD: True}[batch.signature]] * len(ids)
    known_items: list[int | None]
    if batch.signature == COLD:
        known_items = [0] * len(ids)  # these users have no history
    elif KNOWN_ITEMS in response.outputs:
        known_items = tensor_protos.decode(response.outputs[KNOWN_ITEMS]).tolist()
    else:
        known_items = [None] * len(ids)
    version = _version(response)
    return [
        Recommendations(
            *_cut(items, values, k, user.exclude if batch.signature == SERVING_DEFAULT else ()),
            version,
            batch.signature,
            cold,
            known,
        )
        for user, items, values, cold, known in zip(
            batch.users, ids, scores, is_cold, known_items, strict=True
        )
    ]


def simulated_histories(batch: Batch, response: AnyMessage) -> list[SimulatedHistory]:
    """Returns the simulated histories in a `PredictResponse`, one per user of a batch.

    Raises:
        ValueError: the response has other rows or tensors than the request asks for.
    """
    ids, scores = (tensor_protos.decode(response.outputs[name]) for name in _LISTS)
    if ids.ndim != 3 or ids.shape != scores.shape or len(ids) != len(batch.users):
        raise ValueError(f"items {ids.shape} and scores {scores.shape}")
    version = _version(response)
    answers = []
    for rows in zip(ids.tolist(), scores.tolist(), strict=True):
        positions = [_cut(*position, None, ()) for position in zip(*rows, strict=True)]
        items, values = zip(*positions, strict=True) if positions else ((), ())
        answers.append(SimulatedHistory(tuple(items), tuple(values), version))
    return answers


def _version(response: AnyMessage) -> int | None:
    spec = response.model_spec
    return spec.version.value if spec.HasField("version") else None


def _cut(
    ids: list[bytes], scores: list[float], k: int | None, excluded: Collection[bytes]
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Returns the first k ids and scores of a list, without padding and excluded items."""
    pairs = [pair for pair in zip(ids, scores, strict=True) if pair[0] and pair[0] not in excluded]
    names = tuple(item.decode("utf-8", "surrogateescape") for item, _ in pairs[:k])
    return names, tuple(score for _, score in pairs[:k])


def signatures(response: AnyMessage) -> dict[str, AnyMessage]:
    """Returns `{signature: SignatureDef}` from a `GetModelMetadataResponse`.

    Raises:
        ValueError: the response holds no signatures.
    """
    definitions = protos.SignatureDefMap()
    if not response.metadata["signature_def"].Unpack(definitions):
        raise ValueError("no signatures")
    return dict(definitions.signature_def)


def states(response: AnyMessage) -> dict[int, str]:
    """Returns `{version: state}` from a `GetModelStatusResponse`."""
    return {
        status.version: protos.state_name(status.state) for status in response.model_version_status
    }
