"""A typed client of the served model; TensorFlow Serving and the local server alike."""

import dataclasses

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from cmclrec_tf.errors import InputError, ReadableError
from cmclrec_tf.schema import EXCLUDE, HISTORY
from serving import profiles, tensor_protos
from serving.local_server import HOST, MESSAGE_BYTES, MODEL_NAME, PORT

# gRPC turns a longer one into a deadline in the past.
MOST_SECONDS = 86_400
ROWS = 256
_MENDS = {
    grpc.StatusCode.UNAVAILABLE: "Start the server, or correct the target",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Give a longer timeout, or send fewer users at once",
    grpc.StatusCode.NOT_FOUND: "Correct the model name, or wait until the version is loaded",
    grpc.StatusCode.FAILED_PRECONDITION: "Serve a model that has the signature",
    grpc.StatusCode.UNIMPLEMENTED: "Point the target at TensorFlow Serving or at `cmclrec serve`",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Send fewer users at once",
}


class ServingError(ReadableError):
    """A server that did not answer, or refused to; one line with target, reason and mend.

    Attributes:
        code: `grpc.StatusCode`.
    """

    def __init__(self, code, message):
        self.code, self.message = code, message
        super().__init__(message)

    def __reduce__(self):
        return type(self), (self.code, self.message)


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """One user's list, best first.

    Attributes:
        item_ids: of the items.
        scores: one an item; comparable within one answer only.
    """

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]


class Client:
    """Asks a served model for recommendations; a context manager, safe to share among threads.

    Args:
        target: `host:port` of the gRPC port.
        model_name: the name that the model is served under.
        timeout: seconds that one call may take.

    Every method raises `ServingError` when the server is not reachable, is too slow or refuses.
    """

    def __init__(self, target=f"{HOST}:{PORT}", model_name=MODEL_NAME, timeout=5.0):
        if not 0 < timeout <= MOST_SECONDS:
            raise InputError(
                f"timeout={timeout}", f"it must be in (0, {MOST_SECONDS}]", "Give it in seconds."
            )
        self.target, self.model_name, self.timeout = target, model_name, timeout
        self._channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
            ],
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._kinds = None

    def warm(self, histories, exclude=None, k=None):
        """Recommends to users with a history.

        Args:
            histories: item ids, oldest first, one sequence a user.
            exclude: further item ids that must not come back, one sequence a user.
            k: length of the lists; by default, and at most, what the model was exported with.

        Returns:
            `Recommendations`, one a user.

        Raises:
            InputError: ids that are not strings, a list too few or too many, a k below 1.
        """
        histories = profiles.padded(histories, HISTORY)
        exclude = profiles.padded(exclude, EXCLUDE, len(histories))
        return self._recommend("warm", {HISTORY: histories, EXCLUDE: exclude}, k)

    def cold(self, users, exclude=None, k=None):
        """Recommends to users without a history.

        Args:
            users: `{user feature: value}` a user: one string (categorical), a list of strings
                (multi) or a number (numeric), as `features` tells; what is left out is missing.
            exclude, k: as in `warm`.

        Returns:
            `Recommendations`, one a user.

        Raises:
            InputError: a user feature that the model does not know or of another kind, or as in
                `warm`.
        """
        users = list(users)
        exclude = profiles.padded(exclude, EXCLUDE, len(users))
        return self._recommend(
            "cold", {**profiles.cold_inputs(users, self.features()), EXCLUDE: exclude}, k
        )

    def features(self):
        """{user feature: kind} of the served model, asked for once."""
        if self._kinds is None:
            signatures = self.metadata()
            if "cold" not in signatures:
                raise ServingError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"{self.target}: model {self.model_name!r} has no signature 'cold', only "
                    f"{sorted(signatures)}. Serve a model that cmclrec exported.",
                )
            self._kinds = profiles.kinds(signatures["cold"])
        return dict(self._kinds)

    def status(self):
        """{version: state} of the model, a state being AVAILABLE, LOADING, ..."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model_name
        answer = self._call("status", self._models.GetModelStatus, request)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {status.version: name(status.state) for status in answer.model_version_status}

    def metadata(self):
        """{signature: SignatureDef} of the model."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self.model_name
        answer = self._call("metadata", self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        return dict(signatures.signature_def)

    def close(self):
        """Gives the connection up."""
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _recommend(self, signature, inputs, k):
        if k is not None and k < 1:
            raise InputError(f"k={k}", "a list holds at least one item", "Give a positive k.")
        answers = []
        for start in range(0, len(inputs[EXCLUDE]), ROWS):
            part = {name: array[start : start + ROWS] for name, array in inputs.items()}
            answers += self._predict(signature, part, k)
        return answers

    def _predict(self, signature, inputs, k):
        request = predict_pb2.PredictRequest(output_filter=["item_ids", "scores"])
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            tensor_protos.encode(array, request.inputs[name])
        outputs = self._call(signature, self._predictions.Predict, request).outputs
        ids, scores = (tensor_protos.decode(outputs[name]) for name in ("item_ids", "scores"))
        return [_cut(*row, k) for row in zip(ids.tolist(), scores.tolist(), strict=True)]

    def _call(self, what, method, request):
        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            details = " ".join((error.details() or "no details").split()).rstrip(".")
            mend = _MENDS.get(error.code(), "Correct the request")
            raise ServingError(
                error.code(),
                f"{self.target}: {what} failed, {error.code().name}: {details}. {mend}.",
            ) from error


def _cut(ids, scores, k):
    """One row without the "" at its end, as long as the caller wants it."""
    named = [item.decode("utf-8", "surrogateescape") for item in ids if item][:k]
    return Recommendations(tuple(named), tuple(scores[: len(named)]))
