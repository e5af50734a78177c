"""Checks requests against a signature and refuses them with TensorFlow Serving's statuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import numpy as np

from cmclrec_tf.schema import EXAMPLES
from serving import tensor_protos
from serving.contract import SERVING_DEFAULT

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
    from tensorflow_serving.apis.model_pb2 import ModelSpec

    from serving.server.limits import Limits

    # Decodes the value of one input: (input name, TensorInfo, value) -> array.
    Decoder: TypeAlias = Callable[[str, TensorInfo, Any], np.ndarray]

# gRPC sends the text of an error in a header of 8 kB, where one character may take 12 bytes.
_MAX_TEXT = 600


class RequestError(Exception):
    """A request that is answered with an error status.

    Attributes:
        code: `grpc.StatusCode`.
        details: one line with the bad value, the rule and the fix. It never contains a value of a
            user.
    """

    def __init__(self, code: grpc.StatusCode, details: str):
        self.code, self.details = code, " ".join(details.split())[:_MAX_TEXT]
        super().__init__(f"{code.name}: {self.details}")


def invalid(details: str) -> RequestError:
    """Returns a `RequestError` with INVALID_ARGUMENT."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, details)


def too_late() -> RequestError:
    """Returns a `RequestError` with DEADLINE_EXCEEDED."""
    return RequestError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "The deadline passed before the request was answered. Allow more time.",
    )


def caller_gone() -> RequestError:
    """Returns a `RequestError` with CANCELLED, which nobody reads."""
    return RequestError(grpc.StatusCode.CANCELLED, "The caller closed its connection.")


def check_wanted(deadline: float | None, is_wanted: bool = True) -> None:
    """Checks that somebody waits for the answer to a request.

    Args:
        deadline: latest time of the answer, by `time.monotonic`; None for no deadline.
        is_wanted: whether the connection of the caller is open.

    Raises:
        RequestError: CANCELLED or DEADLINE_EXCEEDED.
    """
    if not is_wanted:
        raise caller_gone()
    if deadline is not None and deadline < time.monotonic():
        raise too_late()


def check_name(spec: ModelSpec) -> None:
    """Checks that a ModelSpec names a model.

    Raises:
        RequestError: INVALID_ARGUMENT without a name.
    """
    if not spec.name:
        raise invalid("ModelSpec has no name specified. Set model_spec.name.")


def signature(signatures: Mapping[str, SignatureDef], name: str) -> tuple[str, SignatureDef]:
    """Returns the name and the SignatureDef of a signature; "" means `serving_default`.

    Args:
        signatures: `{name: SignatureDef}` of the model.
        name: name in the request.

    Raises:
        RequestError: FAILED_PRECONDITION if there is no such signature.
    """
    name = name or SERVING_DEFAULT
    if name not in signatures:
        raise RequestError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{name}" not found. '
            f"Signatures are {sorted(signatures)}; use one of them.",
        )
    return name, signatures[name]


def inputs(
    signature: SignatureDef, values: Mapping[str, Any], decode: Decoder, limits: Limits
) -> dict[str, np.ndarray]:
    """Decodes the inputs of a request and checks them.

    Args:
        signature: SignatureDef that the request names.
        values: `{input: value}` as received.
        decode: decodes one value, see `decode_tensor` and `rest_json.decode_lists`.
        limits: limits of a request.

    Returns:
        `{input: array}`; strings are object arrays of bytes.

    Raises:
        RequestError: INVALID_ARGUMENT for a missing or extra input, a value that cannot be decoded,
            a wrong rank or size, different numbers of rows, or an exceeded limit.
    """
    names, known = set(values), set(signature.inputs)
    if names != known:
        raise invalid(
            f"input size does not match signature: {len(names)}!={len(known)}. "
            f"Sent extra: {{{','.join(sorted(names - known))}}}. "
            f"Missing but required: {{{','.join(sorted(known - names))}}}. "
            f"Send exactly {sorted(known)}."
            if len(names) != len(known)
            else f"input tensor alias not found in signature: {','.join(sorted(names - known))}. "
            f"Inputs expected to be in the set {{{','.join(sorted(known))}}}. Correct the name."
        )
    arrays = {}
    for name in sorted(known):
        info = signature.inputs[name]
        arrays[name] = decode(name, info, values[name])
        _check(name, info, arrays[name], limits)
    rows = {name: len(array) for name, array in arrays.items() if array.ndim}
    if len(set(rows.values())) > 1:
        raise invalid(
            "input tensors must have equal 0th-dimension size: "
            f"rows are {dict(sorted(rows.items()))}. Send one row per user in every input."
        )
    check_rows(max(rows.values(), default=0), limits)
    return arrays


def check_rows(rows: int, limits: Limits) -> None:
    """Checks the number of rows of a request.

    Raises:
        RequestError: INVALID_ARGUMENT if there are too many.
    """
    if rows > limits.rows:
        raise invalid(
            f"{rows} rows: at most {limits.rows} are served in one request. Split the request."
        )


def _check(name: str, info: TensorInfo, array: np.ndarray, limits: Limits) -> None:
    if not info.tensor_shape.unknown_rank:
        shape = [dim.size for dim in info.tensor_shape.dim]
        fits = len(shape) == array.ndim and all(
            expected in (-1, size) for expected, size in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise invalid(
                f"input {name!r} has shape {list(array.shape)}: it must be {shape} (-1 = any). "
                "Correct the shape."
            )
    if array.ndim > 1 and array.shape[1] > limits.list_length:
        raise invalid(
            f"input {name!r} has {array.shape[1]} values in a row: at most {limits.list_length} "
            "are served. Send the newest."
        )
    if array.dtype == object:
        limit = limits.record_bytes if name == EXAMPLES else limits.string_bytes
        longest = max(map(len, array.ravel().tolist()), default=0)
        if longest > limit:
            raise invalid(
                f"input {name!r} has a string of {longest} bytes: at most {limit} are served. "
                "Shorten it."
            )


def decode_tensor(name: str, info: TensorInfo, proto: TensorProto) -> np.ndarray:
    """Decodes a TensorProto; a `Decoder`.

    Raises:
        RequestError: INVALID_ARGUMENT for a wrong dtype or a malformed tensor.
    """
    if proto.dtype != info.dtype:
        raise wrong_kind(name, tensor_protos.kind_name(proto.dtype), info.dtype)
    try:
        return tensor_protos.decode(proto)
    except ValueError as error:
        raise invalid(f"tensor parsing error: {name}: {error}. Correct the tensor.") from error


def wrong_kind(name: str, kind: str, expected: int) -> RequestError:
    """Returns a `RequestError` about the dtype of an input.

    Args:
        name: name of the input.
        kind: name of the dtype that was sent.
        expected: DataType of the signature.
    """
    return invalid(
        f"input {name!r} is {kind}: it must be {tensor_protos.kind_name(expected)}. Convert it."
    )


def outputs(signature: SignatureDef, output_filter: Iterable[str]) -> list[str]:
    """Returns the names of the requested outputs: all outputs if the filter is empty.

    Raises:
        RequestError: INVALID_ARGUMENT for an unknown or repeated name.
    """
    names = list(output_filter) or sorted(signature.outputs)
    for name in names:
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name}. "
                f"Outputs expected to be in the set {{{','.join(sorted(signature.outputs))}}}. "
                "Correct output_filter."
            )
    if len(set(names)) < len(names):
        raise invalid(
            f"duplicate output tensor alias: {sorted(names)}. Name each once in output_filter."
        )
    return names
