"""NumPy arrays to TF_Tensors and back."""

import contextlib
import ctypes
import math

import numpy as np

from serving.c_api import library

# TF_DataType to NumPy; the numbers are those of DataType in types.proto.
STRING = 7
DTYPES = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    STRING: np.dtype(object),
}

_STRING_BYTES = 24  # sizeof(TF_TString)
_MOST_BYTES = 2**40


def as_array(value, code):
    """An array of TensorFlow type `code`; strings become an object array of bytes.

    Raises:
        TypeError: a type without a counterpart here, or values of another kind.
    """
    if code not in DTYPES:
        raise TypeError(f"DataType {code}, supported are {sorted(DTYPES)}")
    array = np.asarray(value)
    if code == STRING:
        return _as_bytes(array)
    if array.size and not np.can_cast(array.dtype, DTYPES[code], "same_kind"):
        raise TypeError(f"{array.dtype}, expected {DTYPES[code]}")
    return np.ascontiguousarray(array, DTYPES[code]).reshape(array.shape)


def _as_bytes(array):
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
def tensor(array, code):
    """A TF_Tensor of TensorFlow type `code` with a copy of `array`, freed at the end.

    Args:
        array: as `as_array` gives it.
        code: the TF_DataType.
    """
    tensorflow = library.load()
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    width = _STRING_BYTES if code == STRING else array.dtype.itemsize
    size = math.prod(array.shape) * width
    if size > _MOST_BYTES or not (
        pointer := tensorflow.TF_AllocateTensor(code, dims, array.ndim, size)
    ):
        raise MemoryError(f"a tensor of {size} bytes")
    data = tensorflow.TF_TensorData(pointer)
    try:
        if code == STRING:
            # All zeros is the empty string, as TF_StringInit leaves it.
            ctypes.memset(data, 0, size)
            for i, value in enumerate(array.ravel().tolist()):
                if value:
                    tensorflow.TF_StringCopy(data + i * width, value, len(value))
        elif size:
            ctypes.memmove(data, array.ctypes.data, size)
        yield pointer
    finally:
        tensorflow.TF_DeleteTensor(pointer)


def read(pointer):
    """A copy of a TF_Tensor as an array; strings as an object array of bytes.

    Raises:
        TypeError: a type without a counterpart here.
    """
    tensorflow = library.load()
    code = tensorflow.TF_TensorType(pointer)
    if code not in DTYPES:
        raise TypeError(f"DataType {code}, supported are {sorted(DTYPES)}")
    shape = tuple(tensorflow.TF_Dim(pointer, i) for i in range(tensorflow.TF_NumDims(pointer)))
    data = tensorflow.TF_TensorData(pointer)
    if code != STRING:
        raw = ctypes.string_at(data, tensorflow.TF_TensorByteSize(pointer)) if data else b""
        return np.frombuffer(bytearray(raw), DTYPES[code]).reshape(shape)
    strings = np.empty(math.prod(shape), object)
    for i in range(len(strings)):
        string = data + i * _STRING_BYTES
        strings[i] = ctypes.string_at(
            tensorflow.TF_StringGetDataPointer(string), tensorflow.TF_StringGetSize(string)
        )
    return strings.reshape(shape)
