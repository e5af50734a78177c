"""Answers predictions, metadata and model states for both the gRPC and the REST interface."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from serving.c_api.session import SavedModelError
from serving.server import requests
from serving.server.logs import event
from serving.server.memory import Memory

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    from serving.server.catalog import Catalog
    from serving.server.limits import Limits
    from serving.server.prometheus_metrics import Metrics

_LOG = logging.getLogger(__name__)
_STATUSES = {status.value[0]: status for status in grpc.StatusCode}
# Statuses that mean a fault of the server rather than of the request.
_SERVER_FAULTS = {
    "INTERNAL",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "UNKNOWN",
    "DATA_LOSS",
    "ABORTED",
}


@dataclasses.dataclass
class Answer:
    """The answer to a predict request, filled in as the request is processed.

    Attributes:
        model: name of the model that answers; "" until it is known.
        version: version of the model; 0 until it is known.
        signature: name of the signature; "" until it is known.
        rows: users in the request; None until it is known.
        outputs: `{output: array}`; empty until the model has run.
    """

    model: str = ""
    version: int = 0
    signature: str = ""
    rows: int | None = None
    outputs: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Api:
    """Predictions, metadata and states of the models of a catalog.

    Every method raises a `RequestError` if it refuses the request.

    Args:
        catalog: the loaded models.
        metrics: receives the counts and times of requests.
        limits: limits of one request, of all requests together and of connections.
        log_requests: whether every request is logged, or only those with a fault of the server.

    Attributes:
        memory: bounds the memory of all requests together.
    """

    def __init__(
        self, catalog: Catalog, metrics: Metrics, limits: Limits, log_requests: bool = False
    ):
        self.catalog, self.metrics, self.limits = catalog, metrics, limits
        self.memory = Memory(limits.waiting_bytes)
        self._log_requests = log_requests

    def predict(
        self,
        interface: str,
        spec: model_pb2.ModelSpec,
        values: Mapping[str, Any] | Callable[[SignatureDef], Mapping[str, Any]],
        decode: requests.Decoder,
        output_filter: Iterable[str] = (),
        check: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Runs one signature.

        Args:
            interface: "grpc" or "rest".
            spec: ModelSpec of the request.
            values: inputs as received, `{input: value}`, or a function from the SignatureDef to
                them.
            decode: decodes one value, see `requests.inputs`.
            output_filter: names of the requested outputs; empty for all.
            check: called before the model runs; raises a `RequestError` if nobody waits for the
                answer any more.

        Returns:
            `Answer`.
        """
        answer = Answer()
        with self._recorded(interface, answer), self.catalog.lease(spec) as servable:
            answer.model, answer.version = servable.name, servable.version
            name, signature = requests.signature(servable.signatures, spec.signature_name)
            answer.signature = name
            output_names = requests.outputs(signature, output_filter)
            raw = values(signature) if callable(values) else values
            inputs = requests.inputs(signature, raw, decode, self.limits)
            answer.rows = max((len(array) for array in inputs.values() if array.ndim), default=0)
            check()
            answer.outputs = servable.session.run(name, inputs, output_names)
        return answer

    @contextlib.contextmanager
    def _recorded(self, interface: str, answer: Answer) -> Iterator[None]:
        """Counts and logs a request; turns every exception of the block into a `RequestError`."""
        start, status = time.monotonic(), "OK"
        try:
            with self.metrics.in_flight(), as_request_errors("Predict"):
                yield
        except requests.RequestError as error:
            status = error.code.name
            raise
        finally:
            seconds = time.monotonic() - start
            fields: dict[str, Any] = {
                "model": answer.model,
                "version": answer.version,
                "signature": answer.signature,
                "rows": answer.rows,
                "interface": interface,
                "status": status,
            }
            self.metrics.request(**fields, seconds=seconds)
            if self._log_requests or status in _SERVER_FAULTS:
                level = logging.ERROR if status in _SERVER_FAULTS else logging.INFO
                event(_LOG, level, "request", **fields, milliseconds=round(1e3 * seconds, 3))

    def metadata(
        self, spec: model_pb2.ModelSpec, fields: Iterable[str]
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the signatures of a model.

        Args:
            spec: ModelSpec of the request.
            fields: metadata fields of the request; only `signature_def` is supported.
        """
        if not fields:
            raise requests.invalid(
                "GetModelMetadataRequest must specify at least one metadata_field. "
                "Request signature_def."
            )
        for field in fields:
            if field != "signature_def":
                raise requests.invalid(
                    f"Metadata field {field} is not supported. Request signature_def."
                )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self.catalog.lease(spec) as servable:
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            fill(response.model_spec, servable.name, servable.version)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the state of the version that a ModelSpec names, or of all versions."""
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, (state, message) in self.catalog.states(spec).items():
            entry = response.model_version_status.add(version=version, state=int(state))
            code = grpc.StatusCode.UNKNOWN if message else grpc.StatusCode.OK
            # TensorFlow Serving sets the status of every version.
            entry.status.SetInParent()
            entry.status.error_code, entry.status.error_message = code.value[0], message
        return response


@contextlib.contextmanager
def as_request_errors(method: str) -> Iterator[None]:
    """Turns every exception of the block into a `RequestError`.

    The log names the type of an unexpected exception, but not its text, which may quote a user's
    data.
    """
    try:
        yield
    except requests.RequestError:
        raise
    except SavedModelError as error:
        status = _STATUSES.get(error.code, grpc.StatusCode.INTERNAL)
        raise requests.RequestError(status, error.message) from None
    except Exception as error:
        event(_LOG, logging.ERROR, "failure", method=method, reason=type(error).__name__)
        raise requests.RequestError(
            grpc.StatusCode.INTERNAL, f"{method} failed in the server. See its log."
        ) from None


def fill(spec: model_pb2.ModelSpec, name: str, version: int, signature_name: str = "") -> None:
    """Writes the model, version and signature that answered into the ModelSpec of an answer."""
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature_name
