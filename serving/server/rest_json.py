"""Decodes and encodes TensorFlow Serving's JSON: rows (`instances`) or columns (`inputs`)."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.server import requests
from serving.tensor_protos import KINDS, MAX_ELEMENTS, STRING

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

    from serving.server.limits import Limits

_INSTANCES, _INPUTS = "instances", "inputs"
# NumPy before version 2 has no more dimensions.
_MAX_DIMENSIONS = 32
# Every integer up to here is a float32; TensorFlow Serving refuses larger ones.
_MAX_FLOAT_INTEGER = {np.dtype(np.float32): 2**24 - 1, np.dtype(np.float64): 2**53 - 1}
# TensorFlow Serving allows white space anywhere, and either character as padding, or none.
_SPACE, _PADDING = re.compile("[ \\t\\n\\v\\f\\r]"), "=."


def count_values(raw: bytes, limits: Limits) -> int:
    """Returns the most values, lists and objects that a JSON text can have.

    The count takes little time and memory, which parsing does not.

    Args:
        raw: the text. A comma or bracket within a string counts as well.
        limits: limits of a request.

    Raises:
        RequestError: INVALID_ARGUMENT if there are more than the limit.
    """
    values = 1 + raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if values > limits.json_values:
        raise requests.invalid(
            f"The body has up to {values} values: at most {limits.json_values} are served in one "
            "request. Split the request."
        )
    return values


class Body:
    """The decoded JSON body of a predict request.

    Args:
        raw: the body, which `count_values` has checked.
        limits: limits of a request.

    Attributes:
        signature_name: "" if the body names none.
        output_filter: names of the requested outputs; empty for all.
        in_rows: whether the body has `instances` rather than `inputs`.

    Raises:
        RequestError: INVALID_ARGUMENT if the body does not have this form.
    """

    def __init__(self, raw: bytes, limits: Limits):
        self._limits = limits
        if not raw:
            raise requests.invalid("JSON Parse error: The document is empty. Send JSON.")
        try:
            # Some callers begin with a byte order mark.
            body = json.loads(raw.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise requests.invalid(
                f"JSON Parse error: {type(error).__name__}. Send JSON."
            ) from None
        if not isinstance(body, dict):
            raise requests.invalid("The body must be an object. Send {...}.")
        # Other keys are ignored, as in TensorFlow Serving.
        if _INSTANCES not in body and _INPUTS not in body:
            raise requests.invalid("Missing 'inputs' or 'instances' key. Send one of them.")
        if _INSTANCES in body and _INPUTS in body:
            raise requests.invalid(
                "Not formatted correctly: expecting only one of 'inputs' and 'instances'."
            )
        self.signature_name = body.get("signature_name", "")
        self.output_filter = body.get("output_filter", [])
        if not _is_text(self.signature_name):
            raise requests.invalid("`signature_name` must be a string.")
        if not isinstance(self.output_filter, list) or not all(map(_is_text, self.output_filter)):
            raise requests.invalid("`output_filter` must be a list of strings.")
        self.in_rows = _INSTANCES in body
        self._values = body[_INSTANCES if self.in_rows else _INPUTS]

    def inputs(self, signature: SignatureDef) -> dict[str, Any]:
        """Returns `{input: nested lists}` for a SignatureDef.

        Raises:
            RequestError: INVALID_ARGUMENT if the rows have different inputs, or there are too many.
        """
        if not self.in_rows:
            if not _has_names(self._values):
                return {_only(signature): self._values}
            # Other names are ignored, as in TensorFlow Serving.
            return {name: self._values[name] for name in signature.inputs if name in self._values}
        rows = self._values
        if not isinstance(rows, list) or not rows:
            raise requests.invalid("`instances` must be a list of at least one row.")
        requests.check_rows(len(rows), self._limits)
        has_names = [_has_names(row) for row in rows]
        if not any(has_names):
            return {_only(signature): rows}
        if not all(has_names) or any(set(row) != set(rows[0]) for row in rows):
            raise requests.invalid("Every row of `instances` must name the same inputs.")
        return {name: [row[name] for row in rows] for name in rows[0]}


def _has_names(value: Any) -> bool:
    """Whether a JSON value maps input names to values (and is not one base64 string)."""
    return isinstance(value, dict) and "b64" not in value


def _only(signature: SignatureDef) -> str:
    if len(signature.inputs) != 1:
        raise requests.invalid(
            "Inputs without names fit a signature of one input only. "
            f"Name {sorted(signature.inputs)}."
        )
    return next(iter(signature.inputs))


def _is_text(value: Any) -> bool:
    """Whether a value is a string without half surrogate pairs, which protocol buffers refuse."""
    return isinstance(value, str) and value == value.encode("utf-8", "ignore").decode("utf-8")


def decode_lists(name: str, info: TensorInfo, value: Any) -> np.ndarray:
    """Decodes nested JSON lists; a `requests.Decoder`.

    Raises:
        RequestError: INVALID_ARGUMENT for ragged lists, a wrong dtype, or too many values.
    """
    if info.dtype not in KINDS:
        raise requests.wrong_kind(name, "JSON", info.dtype)
    shape, level = [], value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    if len(shape) > _MAX_DIMENSIONS:
        raise requests.invalid(
            f"input {name!r}: its lists nest {len(shape)} deep, at most {_MAX_DIMENSIONS} are "
            "served. Correct the shape."
        )
    rank = len(info.tensor_shape.dim)
    if shape and not shape[-1] and len(shape) < rank:
        shape += [0] * (rank - len(shape))
    if math.prod(shape) > MAX_ELEMENTS:
        raise requests.invalid(f"input {name!r}: at most {MAX_ELEMENTS} values are served.")
    flat = _flatten(name, value, shape)
    decode = _bytes if info.dtype == STRING else _number
    values = [decode(name, info, item) for item in flat]
    array = np.empty(len(values), KINDS[info.dtype].dtype)
    try:
        array[:] = values
    except (OverflowError, ValueError):
        raise _too_large(name, info) from None
    return array.reshape(shape)


def _flatten(name: str, value: Any, shape: list[int]) -> list[Any]:
    """Returns the values of nested lists, after a check that they have this shape."""
    flat = [value]
    for size in shape:
        if not all(isinstance(item, list) and len(item) == size for item in flat):
            raise _ragged(name)
        flat = list(itertools.chain.from_iterable(flat))
    if any(isinstance(item, list) for item in flat):
        raise _ragged(name)
    return flat


def _too_large(name: str, info: TensorInfo) -> requests.RequestError:
    kind = KINDS[info.dtype].name
    return requests.invalid(
        f"input {name!r} has a number that cannot be converted to {kind} without loss of "
        f"precision: it is too large for {kind}. Round it, or write it with a decimal point."
    )


def _ragged(name: str) -> requests.RequestError:
    return requests.invalid(
        f'input {name!r}: its lists must be of one length and depth. Pad strings with "".'
    )


def _bytes(name: str, info: TensorInfo, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        return _from_base64(name, value["b64"])
    raise requests.wrong_kind(name, f"JSON {type(value).__name__}", info.dtype)


def _from_base64(name: str, text: str) -> bytes:
    """Decodes base64 with white space and with or without padding; wrong padding is an error."""
    text = _SPACE.sub("", text)
    digits = text.rstrip(_PADDING)
    padding = len(text) - len(digits)
    if padding in (0, -len(digits) % 4):
        try:
            return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise requests.invalid(f"input {name!r} has a b64 that is not base64. Encode it again.")


def _number(name: str, info: TensorInfo, value: Any) -> Any:
    dtype = KINDS[info.dtype].dtype
    types: Any = {"f": (int, float), "i": (int,), "b": (bool,)}[dtype.kind]
    if not isinstance(value, types) or (isinstance(value, bool) and dtype.kind != "b"):
        raise requests.wrong_kind(name, f"JSON {type(value).__name__}", info.dtype)
    if dtype.kind == "f":
        most = _MAX_FLOAT_INTEGER[dtype] if isinstance(value, int) else float(np.finfo(dtype).max)
        # Infinity and NaN are numbers of JSON here, and a model treats them as missing.
        if most < value < math.inf or -math.inf < value < -most:
            raise _too_large(name, info)
    return value


def answer(outputs: Mapping[str, np.ndarray], in_rows: bool) -> dict[str, Any]:
    """Returns the JSON object of a prediction.

    Args:
        outputs: `{output: array}`.
        in_rows: whether the request had `instances`; the answer has the same form.
    """
    lists = {name: _plain(array) for name, array in sorted(outputs.items())}
    single = len(lists) == 1
    if not in_rows:
        return {"outputs": next(iter(lists.values())) if single else lists}
    if single:
        return {"predictions": next(iter(lists.values()))}
    return {
        "predictions": [
            dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)
        ]
    }


def _plain(array: np.ndarray) -> list[Any]:
    """Returns nested lists; bytes that are not UTF-8 become {"b64": ...}."""
    if array.dtype != object:
        return array.tolist()
    texts = np.empty(array.size, object)
    for index, value in enumerate(array.ravel().tolist()):
        try:
            texts[index] = value.decode("utf-8")
        except UnicodeDecodeError:
            texts[index] = {"b64": base64.b64encode(value).decode()}
    return texts.reshape(array.shape).tolist()
