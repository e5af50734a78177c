"""Requests held against a signature, refused as TensorFlow Serving refuses them."""

import grpc

from cmclrec_tf.schema import EXAMPLES
from serving import tensor_protos
from serving.contract import SERVING_DEFAULT

# gRPC carries the text of an error in a header of 8 kB; a character may take 12 of them.
_MOST_TEXT = 600


class RequestError(Exception):
    """A request that is answered with a status instead of a result.

    Attributes:
        code: `grpc.StatusCode`.
        details: one line: value, rule and mend. Never a value of a user's.
    """

    def __init__(self, code, details):
        self.code, self.details = code, " ".join(details.split())[:_MOST_TEXT]
        super().__init__(f"{code.name}: {self.details}")


def invalid(details):
    """A `RequestError` with INVALID_ARGUMENT."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, details)


def check_name(spec) -> None:
    """Refuses a ModelSpec without a model name.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    if not spec.name:
        raise invalid("ModelSpec has no name specified. Set model_spec.name.")


def signature(signatures, name):
    """A signature by name, "" being `serving_default`.

    Args:
        signatures: `{name: SignatureDef}`.

    Returns:
        Its name and `SignatureDef`.

    Raises:
        RequestError: FAILED_PRECONDITION when there is no such signature.
    """
    name = name or SERVING_DEFAULT
    if name not in signatures:
        raise RequestError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{name}" not found. '
            f"Signatures are {sorted(signatures)}; ask for one of them.",
        )
    return name, signatures[name]


def inputs(signature, sent, read, limits):
    """The input arrays of a request.

    Args:
        signature: the `SignatureDef` that it asks for.
        sent: `{input: value}` as it came.
        read: (input, TensorInfo, value) -> array; raises `RequestError`.
        limits: `Limits`.

    Returns:
        `{name: array}`; strings as object arrays of bytes.

    Raises:
        RequestError: INVALID_ARGUMENT for missing or extra inputs, a value that cannot be read,
            another rank or size, rows that differ in number, or more than the limits allow.
    """
    names, known = set(sent), set(signature.inputs)
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
        arrays[name] = read(name, info, sent[name])
        _check(name, info, arrays[name], limits)
    rows = {name: len(array) for name, array in arrays.items() if array.ndim}
    if len(set(rows.values())) > 1:
        raise invalid(
            "input tensors must have equal 0th-dimension size: "
            f"rows are {dict(sorted(rows.items()))}. Send one row a user in every input."
        )
    if max(rows.values(), default=0) > limits.rows:
        raise invalid(
            f"{max(rows.values())} rows: at most {limits.rows} are served in one request. "
            "Split the request."
        )
    return arrays


def _check(name, info, array, limits):
    if not info.tensor_shape.unknown_rank:
        wanted = [dim.size for dim in info.tensor_shape.dim]
        fits = len(wanted) == array.ndim and all(
            size in (-1, found) for size, found in zip(wanted, array.shape, strict=True)
        )
        if not fits:
            raise invalid(
                f"input {name!r} has shape {list(array.shape)}: it must be {wanted} (-1 = any). "
                "Correct the shape."
            )
    if array.ndim > 1 and array.shape[1] > limits.list_length:
        raise invalid(
            f"input {name!r} has {array.shape[1]} values in a row: at most {limits.list_length} "
            "are served. Send the newest."
        )
    if array.dtype == object:
        most = limits.record_bytes if name == EXAMPLES else limits.string_bytes
        longest = max(map(len, array.ravel().tolist()), default=0)
        if longest > most:
            raise invalid(
                f"input {name!r} has a string of {longest} bytes: at most {most} are served. "
                "Shorten it."
            )


def tensor(name, info, proto):
    """The array of a `TensorProto`, as `read` of `inputs`.

    Raises:
        RequestError: INVALID_ARGUMENT for another dtype or a tensor that cannot be read.
    """
    if proto.dtype != info.dtype:
        raise wrong_kind(name, tensor_protos.kind_name(proto.dtype), info.dtype)
    try:
        return tensor_protos.decode(proto)
    except ValueError as error:
        raise invalid(f"tensor parsing error: {name}: {error}. Correct the tensor.") from error


def wrong_kind(name, found, wanted):
    """A `RequestError` about the dtype of an input.

    Args:
        found: its name.
        wanted: the DataType of the signature.
    """
    return invalid(
        f"input {name!r} is {found}: it must be {tensor_protos.kind_name(wanted)}. Convert it."
    )


def outputs(signature, output_filter):
    """The names of the outputs that a request wants, all when it names none.

    Raises:
        RequestError: INVALID_ARGUMENT for an unknown or a repeated name.
    """
    wanted = list(output_filter) or sorted(signature.outputs)
    for name in wanted:
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name}. "
                f"Outputs expected to be in the set {{{','.join(sorted(signature.outputs))}}}. "
                "Correct output_filter."
            )
    if len(set(wanted)) < len(wanted):
        raise invalid(
            f"duplicate output tensor alias: {sorted(wanted)}. Name each once in output_filter."
        )
    return wanted
