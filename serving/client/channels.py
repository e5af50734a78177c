"""Connections to a server: retries and their budget, encryption, and what a failure means.

gRPC itself retries, by the service config below, so that both kinds of client do it alike:

- A server that cannot be reached is waited for until the deadline (`wait_for_ready`). Trying to
  connect costs a dead server nothing, so no budget limits it.
- A request that a server answers with UNAVAILABLE, that it cancels as it stops, or that dies with
  its connection, is sent again at most four times, within the deadline and the budget: a token
  goes with each such failure, a tenth comes back with each answer, and below half of the tokens
  nothing is sent again.
"""

import json
import pathlib

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from cmclrec_tf.errors import InputError
from serving.client.answers import ServingError
from serving.contract import MESSAGE_BYTES

# gRPC turns a longer one into a deadline in the past.
MOST_SECONDS = 86_400
# At the end of a deadline, to learn whether it was the connection that took so long.
_PROBE_SECONDS = 0.1
# Half of them may be spent at once: as many requests as may be under way when a server dies.
_TOKENS = 400
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    # A server that stops in good order cancels what it had accepted and not begun. What a caller
    # cancels is over, and never comes here.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
_SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_MENDS = {
    grpc.StatusCode.UNAVAILABLE: "Start the server, or correct the target",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Give a longer timeout, or send fewer users at once",
    grpc.StatusCode.NOT_FOUND: "Correct the model name, or wait until the version is loaded",
    grpc.StatusCode.FAILED_PRECONDITION: "Serve a model that has the signature",
    grpc.StatusCode.UNIMPLEMENTED: "Point the target at TensorFlow Serving or at `cmclrec serve`",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Send fewer users at once",
    grpc.StatusCode.CANCELLED: "Ask again",
    grpc.StatusCode.INTERNAL: "See what the server logged",
}


def options():
    """The options of every channel."""
    config = {
        "methodConfig": [
            {"name": [{"service": name} for name in _SERVICES], "retryPolicy": _RETRY}
        ],
        "retryThrottling": {"maxTokens": _TOKENS, "tokenRatio": 0.1},
    }
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        # A request that does not fit into this buffer is not sent again.
        ("grpc.per_rpc_retry_buffer_size", MESSAGE_BYTES),
        # A server that starts again is found within a second; gRPC's own are up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Also what one attempt to connect may take, TLS included.
        ("grpc.min_reconnect_backoff_ms", 5000),
    ]


def open_channel(library, target, credentials):
    """A channel of `grpc` or of `grpc.aio`.

    Args:
        library: one of the two modules.
        target: `host:port`.
        credentials: `grpc.ChannelCredentials`; unencrypted when None.
    """
    if credentials is None:
        return library.insecure_channel(target, options=options())
    return library.secure_channel(target, credentials, options=options())


def methods(channel):
    """{name: callable} of what a client asks over a channel of either library."""
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return {
        "Predict": predictions.Predict,
        "GetModelMetadata": predictions.GetModelMetadata,
        "GetModelStatus": model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus,
    }


def probe(channel):
    """A callable that fails with UNAVAILABLE, and why, when the server cannot be reached.

    It names a service outside of the retries; any other status means that there is a connection.
    """
    ask = channel.unary_unary("/grpc.health.v1.Health/Check")
    return lambda: ask(b"", timeout=_PROBE_SECONDS, wait_for_ready=False)


def request_seconds(timeout):
    """What of a timeout is for the request, the rest being for a probe."""
    return timeout - min(_PROBE_SECONDS, timeout / 10)


def root_credentials(path):
    """Credentials that trust the certificates of one file of PEM.

    Raises:
        InputError: a file that cannot be read or holds no certificate.
    """
    try:
        roots = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            path, f"it must be a readable file ({error.strerror})", "Correct the path."
        ) from error
    if b"-----BEGIN CERTIFICATE-----" not in roots:
        raise InputError(path, "it must hold certificates in PEM", "Name the file of the roots.")
    return grpc.ssl_channel_credentials(root_certificates=roots)


def checked_timeout(timeout):
    """A timeout in seconds.

    Raises:
        InputError: it is not above 0, or longer than a day.
    """
    if not 0 < timeout <= MOST_SECONDS:
        raise InputError(
            f"timeout={timeout}", f"it must be in (0, {MOST_SECONDS}]", "Give it in seconds."
        )
    return timeout


def is_late(error):
    """Whether a deadline passed, be it in waiting for the server or for its answer."""
    return error.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def is_unreachable(error):
    """Whether a probe failed for want of a connection."""
    return error.code() == grpc.StatusCode.UNAVAILABLE


def failure(target, what, error):
    """The `ServingError` of a request that failed.

    Args:
        target: that was asked.
        what: was asked.
        error: `grpc.RpcError` of the request or of a probe.
    """
    code = error.code()
    details = " ".join((error.details() or "no details").split()).rstrip(".")
    mend = _MENDS.get(code, "Correct the request")
    return ServingError(code, f"{target}: {what} failed, {code.name}: {details}. {mend}.")
