"""Converts TensorProtos to NumPy arrays and back, with bounds on what a message may allocate."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

# A shape of a few bytes could otherwise request all of the memory.
MAX_ELEMENTS = 2**22
# One value may stand for many elements, and TensorFlow copies it for each of them.
MAX_REPEATED_BYTES = 2**26


@dataclasses.dataclass(frozen=True)
class Kind:
    """A TensorFlow type that the server accepts.

    Attributes:
        name: name of the type in messages.
        dtype: NumPy type.
        field: repeated field of TensorProto that holds the values.
    """

    name: str
    dtype: np.dtype[Any]
    field: str


# Keys are the numbers of DataType in types.proto.
FLOAT, STRING = 1, 7
KINDS = {
    FLOAT: Kind("float", np.dtype(np.float32), "float_val"),
    2: Kind("double", np.dtype(np.float64), "double_val"),
    3: Kind("int32", np.dtype(np.int32), "int_val"),
    STRING: Kind("string", np.dtype(object), "string_val"),
    9: Kind("int64", np.dtype(np.int64), "int64_val"),
    10: Kind("bool", np.dtype(np.bool_), "bool_val"),
}


def kind_name(code: int) -> str:
    """Returns the name of a type in messages."""
    return KINDS[code].name if code in KINDS else f"DataType {code}"


def decode(proto: "TensorProto") -> NDArray[Any]:
    """Returns the array of a TensorProto; strings as an object array of bytes.

    As in TensorFlow, the last value is repeated if there are fewer values than elements; without
    any value the elements are zeros or "".

    Raises:
        ValueError: the type is not supported, the shape is missing, there are too many elements, or
            the values do not fit the shape.
    """
    if proto.dtype not in KINDS:
        raise ValueError(f"DataType {proto.dtype}, served are {[k.name for k in KINDS.values()]}")
    kind = KINDS[proto.dtype]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError("the shape is unknown, every dimension must be given")
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise ValueError(f"shape {list(shape)}, at most {MAX_ELEMENTS} elements are served")
    if proto.tensor_content:
        if proto.dtype == STRING or len(proto.tensor_content) != count * kind.dtype.itemsize:
            raise ValueError(
                f"{len(proto.tensor_content)} bytes of content for shape {list(shape)}"
            )
        content = np.frombuffer(proto.tensor_content, kind.dtype.newbyteorder("<"))
        return content.astype(kind.dtype).reshape(shape)
    values = getattr(proto, kind.field)
    if len(values) > count:
        raise ValueError(f"{len(values)} values for shape {list(shape)}")
    if proto.dtype == STRING and values:
        repeated = (count - len(values)) * len(values[-1])
        if repeated > MAX_REPEATED_BYTES:
            raise ValueError(f"one value repeated for shape {list(shape)}, {repeated} bytes in all")
    array = np.full(
        count, (b"" if proto.dtype == STRING else 0) if not values else values[-1], kind.dtype
    )
    array[: len(values)] = values
    return array.reshape(shape)


def encode(array: NDArray[Any], proto: "TensorProto") -> None:
    """Writes an array into an empty TensorProto, in typed fields as TensorFlow Serving does.

    Args:
        array: array of a type in `KINDS`; strings as an object array of bytes.
        proto: the TensorProto to fill.
    """
    proto.dtype = next(code for code, kind in KINDS.items() if kind.dtype == array.dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, KINDS[proto.dtype].field).extend(array.ravel().tolist())
