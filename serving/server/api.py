"""What a local server answers, whichever interface asks."""

import contextlib
import dataclasses
import logging
import time

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from serving.c_api.session import SavedModelError
from serving.server import requests
from serving.server.logs import event

_LOG = logging.getLogger(__name__)
_STATUSES = {status.value[0]: status for status in grpc.StatusCode}
_FACTS = ("model", "version", "signature", "rows")
# Statuses that tell of the server rather than of the request.
_OURS = {"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "DATA_LOSS", "ABORTED"}


@dataclasses.dataclass
class Answer:
    """What a request got, or how far it came.

    Attributes:
        model, version, signature: that answered; "" and 0 until they are known.
        rows: users asked for; None until they are known.
        outputs: `{name: array}`.
    """

    model: str = ""
    version: int = 0
    signature: str = ""
    rows: int | None = None
    outputs: dict | None = None


class Api:
    """Predictions, metadata and states of the models of a catalog.

    Every method raises `RequestError` where it refuses.

    Args:
        catalog: `Catalog`.
        metrics: `Metrics`.
        limits: `Limits`.
        log_requests: whether every request is logged, not only those that the server failed.
    """

    def __init__(self, catalog, metrics, limits, log_requests=False):
        self.catalog, self.metrics, self.limits = catalog, metrics, limits
        self._log_requests = log_requests

    def predict(self, interface, spec, sent, read, output_filter=(), deadline=None):
        """Answers one signature.

        Args:
            interface: "grpc" or "rest".
            spec: ModelSpec.
            sent: the inputs: `{input: value}`, or (SignatureDef) -> `{input: value}`.
            read: see `requests.inputs`.
            output_filter: outputs wanted; all when empty.
            deadline: on the monotonic clock; None for none.

        Returns:
            `Answer`.
        """
        answer = Answer()
        with self._noted(interface, answer), self.catalog.lease(spec) as servable:
            answer.model, answer.version = servable.name, servable.version
            name, signature = requests.signature(servable.signatures, spec.signature_name)
            answer.signature = name
            wanted = requests.outputs(signature, output_filter)
            given = sent(signature) if callable(sent) else sent
            inputs = requests.inputs(signature, given, read, self.limits)
            answer.rows = max((len(array) for array in inputs.values() if array.ndim), default=0)
            if deadline is not None and deadline < time.monotonic():
                raise requests.RequestError(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    "The deadline passed before the request was run. Allow more time.",
                )
            answer.outputs = servable.session.run(name, inputs, wanted)
        return answer

    @contextlib.contextmanager
    def _noted(self, interface, answer):
        """Counts and logs a request, and turns whatever it raises into a `RequestError`."""
        start, status = time.monotonic(), "OK"
        try:
            with self.metrics.in_flight(), refusals("Predict"):
                yield
        except requests.RequestError as error:
            status = error.code.name
            raise
        finally:
            seconds = time.monotonic() - start
            facts = {name: getattr(answer, name) for name in _FACTS}
            self.metrics.request(interface, status=status, seconds=seconds, **facts)
            if self._log_requests or status in _OURS:
                level = logging.ERROR if status in _OURS else logging.INFO
                took = round(1e3 * seconds, 3)
                event(
                    *(_LOG, level, "request"),
                    **facts,
                    interface=interface,
                    status=status,
                    milliseconds=took,
                )

    def metadata(self, spec, fields):
        """A GetModelMetadataResponse with the metadata field `signature_def`.

        Args:
            spec: ModelSpec.
            fields: names of metadata fields.
        """
        if not fields:
            raise requests.invalid(
                "GetModelMetadataRequest must specify at least one metadata_field. "
                "Ask for signature_def."
            )
        for field in fields:
            if field != "signature_def":
                raise requests.invalid(
                    f"Metadata field {field} is not supported. Ask for signature_def."
                )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self.catalog.lease(spec) as servable:
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
            fill(response.model_spec, servable.name, servable.version)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, spec):
        """A GetModelStatusResponse of the version that a ModelSpec asks for, or of all."""
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, (state, message) in self.catalog.states(spec).items():
            found = response.model_version_status.add(version=version, state=int(state))
            if message:
                found.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                found.status.error_message = message
        return response


@contextlib.contextmanager
def refusals(method):
    """Turns whatever the block raises into a `RequestError`; its content never reaches the log."""
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


def fill(spec, name, version, signature_name="") -> None:
    """Writes into an answer's ModelSpec who answered."""
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature_name
