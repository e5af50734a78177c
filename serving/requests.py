"""Requests held against a signature, refused as TensorFlow Serving refuses them."""

import dataclasses

import grpc

from serving import tensor_protos

MOST_ROWS = 4096
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


@dataclasses.dataclass(frozen=True)
class Model:
    """What a request may name.

    Attributes:
        name, version: of the one model served.
        signatures: `{name: SignatureDef}`.
    """

    name: str
    version: int
    signatures: dict

    def check_spec(self, request):
        """Refuses a request for another model or version.

        Raises:
            RequestError: INVALID_ARGUMENT without a model name or with a version label, NOT_FOUND
                for another model or version.
        """
        spec = request.model_spec
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec. Set model_spec.name.")
        if not spec.name:
            raise invalid("ModelSpec has no name specified. Set model_spec.name.")
        if spec.version_label:
            raise invalid(
                f"Unrecognized servable version label: {spec.version_label}. "
                "No labels are served; ask for a version or leave it out."
            )
        asked = spec.version.value if spec.HasField("version") else self.version
        if (spec.name, asked) != (self.name, self.version):
            exact = spec.HasField("version")
            found = f"Specific({spec.name}, {asked})" if exact else f"Latest({spec.name})"
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: {found}. "
                f"Served is model {self.name!r}, version {self.version}; ask for that.",
            )

    def signature(self, name):
        """A signature by name, "" being `serving_default`.

        Returns:
            Its name and `SignatureDef`.

        Raises:
            RequestError: FAILED_PRECONDITION when there is no such signature.
        """
        name = name or "serving_default"
        if name not in self.signatures:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found. '
                f"Signatures are {sorted(self.signatures)}; ask for one of them.",
            )
        return name, self.signatures[name]


def inputs(signature, request):
    """The input arrays of a `PredictRequest`.

    Args:
        signature: the `SignatureDef` that it asks for.
        request: the `PredictRequest`.

    Returns:
        `{name: array}`; strings as object arrays of bytes.

    Raises:
        RequestError: INVALID_ARGUMENT for missing or extra inputs, a tensor that cannot be read,
            another dtype, rank or size, rows that differ in number, or too many of them.
    """
    sent, known = set(request.inputs), set(signature.inputs)
    if sent != known:
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)}. "
            f"Sent extra: {{{','.join(sorted(sent - known))}}}. "
            f"Missing but required: {{{','.join(sorted(known - sent))}}}. "
            f"Send exactly {sorted(known)}."
            if len(sent) != len(known)
            else f"input tensor alias not found in signature: {','.join(sorted(sent - known))}. "
            f"Inputs expected to be in the set {{{','.join(sorted(known))}}}. Correct the name."
        )
    arrays = {name: _input(name, signature.inputs[name], request.inputs[name]) for name in known}
    rows = {name: len(array) for name, array in arrays.items() if array.ndim}
    if len(set(rows.values())) > 1:
        raise invalid(
            "input tensors must have equal 0th-dimension size: "
            f"rows are {dict(sorted(rows.items()))}. Send one row a user in every input."
        )
    if max(rows.values(), default=0) > MOST_ROWS:
        raise invalid(
            f"{max(rows.values())} rows: at most {MOST_ROWS} are served in one request. "
            "Split the request."
        )
    return arrays


def _input(name, info, proto):
    if proto.dtype != info.dtype:
        found, wanted = tensor_protos.kind_name(proto.dtype), tensor_protos.kind_name(info.dtype)
        raise invalid(f"input {name!r} is {found}: it must be {wanted}. Convert it.")
    try:
        array = tensor_protos.decode(proto)
    except ValueError as error:
        raise invalid(f"tensor parsing error: {name}: {error}. Correct the tensor.") from error
    if info.tensor_shape.unknown_rank:
        return array
    wanted = [dim.size for dim in info.tensor_shape.dim]
    fits = len(wanted) == array.ndim and all(
        size in (-1, found) for size, found in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        raise invalid(
            f"input {name!r} has shape {list(array.shape)}: it must be {wanted} (-1 = any). "
            "Correct the shape."
        )
    return array


def outputs(signature, request):
    """The names of the outputs that a `PredictRequest` wants, all when it names none.

    Raises:
        RequestError: INVALID_ARGUMENT for an unknown or a repeated name.
    """
    wanted = list(request.output_filter) or sorted(signature.outputs)
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
