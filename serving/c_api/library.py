"""Loads TensorFlow's C library from the installed wheel and declares its functions for ctypes."""

import ctypes
import functools
import importlib.util
import pathlib
from typing import Any

from cmclrec_tf.errors import InputError

_POINTER = ctypes.c_void_p


class Buffer(ctypes.Structure):
    """The struct TF_Buffer."""

    _fields_ = [("data", _POINTER), ("length", ctypes.c_size_t), ("deallocator", _POINTER)]


class Output(ctypes.Structure):
    """The struct TF_Output: one output of one operation in a graph."""

    _fields_ = [("operation", _POINTER), ("index", ctypes.c_int)]


_STRINGS = ctypes.POINTER(ctypes.c_char_p)
_OUTPUTS = ctypes.POINTER(Output)
_TENSORS = ctypes.POINTER(_POINTER)
_DIMS = ctypes.POINTER(ctypes.c_int64)

# name: (result type, argument types)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "TF_Version": (ctypes.c_char_p, []),
    "TF_NewStatus": (_POINTER, []),
    "TF_DeleteStatus": (None, [_POINTER]),
    "TF_GetCode": (ctypes.c_int, [_POINTER]),
    "TF_Message": (ctypes.c_char_p, [_POINTER]),
    "TF_NewBuffer": (ctypes.POINTER(Buffer), []),
    "TF_DeleteBuffer": (None, [ctypes.POINTER(Buffer)]),
    "TF_NewGraph": (_POINTER, []),
    "TF_DeleteGraph": (None, [_POINTER]),
    "TF_GraphOperationByName": (_POINTER, [_POINTER, ctypes.c_char_p]),
    "TF_NewSessionOptions": (_POINTER, []),
    "TF_DeleteSessionOptions": (None, [_POINTER]),
    "TF_SetConfig": (None, [_POINTER, ctypes.c_char_p, ctypes.c_size_t, _POINTER]),
    "TF_LoadSessionFromSavedModel": (
        _POINTER,
        # options, run options, folder, tags, number of tags, graph, meta graph, status
        [_POINTER, _POINTER, ctypes.c_char_p, _STRINGS, ctypes.c_int]
        + [_POINTER, ctypes.POINTER(Buffer), _POINTER],
    ),
    "TF_SessionRun": (
        None,
        # session, run options, inputs, values, n, outputs, values, n, targets, n, metadata, status
        [_POINTER, _POINTER, _OUTPUTS, _TENSORS, ctypes.c_int, _OUTPUTS, _TENSORS, ctypes.c_int]
        + [_TENSORS, ctypes.c_int, _POINTER, _POINTER],
    ),
    "TF_CloseSession": (None, [_POINTER, _POINTER]),
    "TF_DeleteSession": (None, [_POINTER, _POINTER]),
    "TF_AllocateTensor": (_POINTER, [ctypes.c_int, _DIMS, ctypes.c_int, ctypes.c_size_t]),
    "TF_DeleteTensor": (None, [_POINTER]),
    "TF_TensorType": (ctypes.c_int, [_POINTER]),
    "TF_NumDims": (ctypes.c_int, [_POINTER]),
    "TF_Dim": (ctypes.c_int64, [_POINTER, ctypes.c_int]),
    "TF_TensorByteSize": (ctypes.c_size_t, [_POINTER]),
    "TF_TensorData": (_POINTER, [_POINTER]),
    "TF_StringCopy": (None, [_POINTER, ctypes.c_char_p, ctypes.c_size_t]),
    "TF_StringGetDataPointer": (_POINTER, [_POINTER]),
    "TF_StringGetSize": (ctypes.c_size_t, [_POINTER]),
}


@functools.cache
def load() -> ctypes.CDLL:
    """Loads the library once and returns it. Its calls release the GIL.

    Raises:
        InputError: TensorFlow is not installed, or its wheel holds no C library.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        raise InputError(
            "tensorflow", "it must be installed", "Install the package's requirements."
        )
    folder = pathlib.Path(spec.origin).parent
    paths = sorted(folder.glob("libtensorflow_cc.*"))
    if not paths:
        raise InputError(
            folder, "the wheel must hold libtensorflow_cc", "Install tensorflow 2.16 or newer."
        )
    library = ctypes.CDLL(str(paths[0]))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
