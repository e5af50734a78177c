"""TensorFlow Serving's JSON of a prediction: rows (`instances`) or columns (`inputs`)."""

import base64
import binascii
import json
import math

import numpy as np

from serving.server import requests
from serving.tensor_protos import KINDS, MOST_ELEMENTS, STRING

_INSTANCES, _INPUTS = "instances", "inputs"
_KEYS = {"signature_name", _INSTANCES, _INPUTS, "output_filter"}
# NumPy knows no more in its older versions.
_MOST_DIMENSIONS = 32


class Body:
    """The JSON body of a predict request.

    Attributes:
        signature_name: "" when it names none.
        output_filter: outputs wanted.

    Raises:
        RequestError: INVALID_ARGUMENT, it is no such object.
    """

    def __init__(self, raw):
        try:
            # Histories of JSON's integers are as good as any: no number is too long here.
            found = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise requests.invalid(
                f"JSON Parse error: {type(error).__name__}. Send JSON."
            ) from None
        if not isinstance(found, dict) or not set(found) <= _KEYS:
            raise requests.invalid(f"The body must be an object with keys of {sorted(_KEYS)}.")
        if (_INSTANCES in found) == (_INPUTS in found):
            raise requests.invalid("The body must hold one of `instances` and `inputs`.")
        self.signature_name = found.get("signature_name", "")
        self.output_filter = found.get("output_filter", [])
        if not _is_text(self.signature_name):
            raise requests.invalid("`signature_name` must be a string.")
        if not _strings(self.output_filter):
            raise requests.invalid("`output_filter` must be a list of strings.")
        self.in_rows = _INSTANCES in found
        self._found = found[_INSTANCES if self.in_rows else _INPUTS]

    def inputs(self, signature):
        """{input: nested lists} for a SignatureDef.

        Raises:
            RequestError: INVALID_ARGUMENT, rows that are not alike.
        """
        if not self.in_rows:
            named = isinstance(self._found, dict) and "b64" not in self._found
            return self._found if named else {_only(signature): self._found}
        rows = self._found
        if not isinstance(rows, list) or not rows:
            raise requests.invalid("`instances` must be a list of at least one row.")
        named = [isinstance(row, dict) and "b64" not in row for row in rows]
        if not any(named):
            return {_only(signature): rows}
        if not all(named) or any(set(row) != set(rows[0]) for row in rows):
            raise requests.invalid("Every row of `instances` must name the same inputs.")
        return {name: [row[name] for row in rows] for name in rows[0]}


def _only(signature):
    if len(signature.inputs) != 1:
        raise requests.invalid(
            "Inputs without names fit a signature of one input alone. "
            f"Name {sorted(signature.inputs)}."
        )
    return next(iter(signature.inputs))


def _strings(value):
    return isinstance(value, list) and all(map(_is_text, value))


def _is_text(value):
    """JSON may escape half a surrogate pair, which no protocol buffer holds."""
    return isinstance(value, str) and value == value.encode("utf-8", "ignore").decode("utf-8")


def array(name, info, value):
    """The array of nested JSON lists, as `read` of `requests.inputs`.

    Raises:
        RequestError: INVALID_ARGUMENT, ragged lists, another dtype, or too many values.
    """
    if info.dtype not in KINDS:
        raise requests.wrong_kind(name, "JSON", info.dtype)
    shape, level = [], value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    if len(shape) > _MOST_DIMENSIONS:
        raise requests.invalid(
            f"input {name!r}: its lists nest {len(shape)} deep, at most {_MOST_DIMENSIONS} are "
            "served. Correct the shape."
        )
    rank = len(info.tensor_shape.dim)
    if shape and not shape[-1] and len(shape) < rank:
        shape += [0] * (rank - len(shape))
    if math.prod(shape) > MOST_ELEMENTS:
        raise requests.invalid(f"input {name!r}: at most {MOST_ELEMENTS} values are served.")
    flat = []
    _flatten(name, value, shape, flat)
    read = _bytes if info.dtype == STRING else _number
    values = [read(name, info, item) for item in flat]
    dtype = KINDS[info.dtype].dtype
    found = np.empty(len(values), dtype)
    try:
        # What float32 does not hold is infinite, and to a model not given.
        with np.errstate(over="ignore"):
            found[:] = values
    except (OverflowError, ValueError):
        raise requests.invalid(f"input {name!r} has a number that is too large.") from None
    return found.reshape(shape)


def _flatten(name, value, shape, flat):
    if not shape:
        if isinstance(value, list):
            raise _ragged(name)
        flat.append(value)
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise _ragged(name)
    if shape[1:] == [] or not value:
        for item in value:
            _flatten(name, item, (), flat)
        return
    for item in value:
        _flatten(name, item, shape[1:], flat)


def _ragged(name):
    return requests.invalid(
        f'input {name!r}: its lists must be of one length and depth. Pad strings with "".'
    )


def _bytes(name, info, value):
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise requests.invalid(f"input {name!r} has a b64 that is no base64.") from None
    raise requests.wrong_kind(name, f"JSON {type(value).__name__}", info.dtype)


def _number(name, info, value):
    kind = KINDS[info.dtype].dtype.kind
    wanted = {"f": (int, float), "i": (int,), "b": (bool,)}[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "b"):
        raise requests.wrong_kind(name, f"JSON {type(value).__name__}", info.dtype)
    return value


def answer(outputs, in_rows):
    """The JSON object of a prediction's outputs, `{name: array}`."""
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


def _plain(array):
    if array.dtype != object:
        return array.tolist()
    texts = np.empty(array.size, object)
    for index, value in enumerate(array.ravel().tolist()):
        try:
            texts[index] = value.decode("utf-8")
        except UnicodeDecodeError:
            texts[index] = {"b64": base64.b64encode(value).decode()}
    return texts.reshape(array.shape).tolist()
