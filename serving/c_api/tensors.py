"""Converts NumPy arrays to TF_Tensors and back."""

import contextlib
import ctypes
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serving.c_api import library
from serving.tensor_protos import KINDS, STRING

_STRING_BYTES = 24  # sizeof(TF_TString)
_MAX_BYTES = 2**40


def as_array(value: ArrayLike, code: int) -> NDArray[Any]:
    """Converts a value to an array of a TensorFlow type; strings become an object array of bytes.

    Args:
        value: an array, or anything that NumPy converts to one.
        code: the TF_DataType; its numbers are those of DataType in types.proto.

    Raises:
        TypeError: the type is not supported, or the values are of another type.
    """
    dtype = _dtype(code)
    array = np.asarray(value)
    if code == STRING:
        return _as_bytes(array)
    if array.size and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise TypeError(f"{array.dtype}, expected {dtype}")
    return np.ascontiguousarray(array, dtype).reshape(array.shape)


def _dtype(code: int) -> np.dtype[Any]:
    if code not in KINDS:
        raise TypeError(f"DataType {code}, supported are {sorted(KINDS)}")
    return KINDS[code].dtype


def _as_bytes(array: NDArray[Any]) -> NDArray[np.object_]:
    if array.size and array.dtype.kind not in "OUS":
        raise TypeError(f"{array.dtype}, expected strings")
    encoded = np.empty(array.size, object)
    for i, value in enumerate(array.ravel().tolist()):
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        elif not isinstance(value, bytes):
            raise TypeError(f"{type(value).__name__} in an array, expected str or bytes")
        encoded[i] = value
    return encoded.reshape(array.shape)


@contextlib.contextmanager
def tensor(array: NDArray[Any], code: int) -> Iterator[int]:
    """Yields a TF_Tensor with a copy of an array, and frees it at the end.

    Args:
        array: an array that `as_array` returned.
        code: its TF_DataType.

    Raises:
        MemoryError: the tensor cannot be allocated.
    """
    c_library = library.load()
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    width = _STRING_BYTES if code == STRING else array.dtype.itemsize
    size = math.prod(array.shape) * width
    if size > _MAX_BYTES or not (
        pointer := c_library.TF_AllocateTensor(code, dims, array.ndim, size)
    ):
        raise MemoryError(f"a tensor of {size} bytes")
    data = c_library.TF_TensorData(pointer)
    try:
        if code == STRING:
            # All zeros is the empty string, as TF_StringInit writes it.
            ctypes.memset(data, 0, size)
            for i, value in enumerate(array.ravel().tolist()):
                if value:
                    c_library.TF_StringCopy(data + i * width, value, len(value))
        elif size:
            ctypes.memmove(data, array.ctypes.data, size)
        yield pointer
    finally:
        c_library.TF_DeleteTensor(pointer)


def read(pointer: int | None) -> NDArray[Any]:
    """Returns a copy of a TF_Tensor; strings as an object array of bytes.

    Raises:
        TypeError: the type is not supported.
    """
    c_library = library.load()
    code = c_library.TF_TensorType(pointer)
    dtype = _dtype(code)
    shape = tuple(c_library.TF_Dim(pointer, i) for i in range(c_library.TF_NumDims(pointer)))
    data = c_library.TF_TensorData(pointer)
    if code != STRING:
        raw = ctypes.string_at(data, c_library.TF_TensorByteSize(pointer)) if data else b""
        return np.frombuffer(bytearray(raw), dtype).reshape(shape)
    strings = np.empty(math.prod(shape), object)
    raw = ctypes.string_at(data, len(strings) * _STRING_BYTES) if data else b""
    for i in range(len(strings)):
        start = i * _STRING_BYTES
        # The lowest bits of the first byte are 0 where the string lies behind it, in the TF_TString
        # itself; the others are its length. Two calls for each string would take longer.
        if raw[start] & 3:
            string = data + start
            strings[i] = ctypes.string_at(
                c_library.TF_StringGetDataPointer(string), c_library.TF_StringGetSize(string)
            )
        else:
            strings[i] = raw[start + 1 : start + 1 + (raw[start] >> 2)]
    return strings.reshape(shape)
