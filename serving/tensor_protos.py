"""TensorProtos to NumPy and back, checked before anything is allocated for them."""

import dataclasses
import math

import numpy as np

# A shape is a few bytes; without a bound it could ask for all the memory there is.
MOST_ELEMENTS = 2**22
# A single value may stand for many elements, each of which is a copy in TensorFlow.
MOST_REPEATED_BYTES = 2**26


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a TensorFlow type travels.

    Attributes:
        name: of the type in messages.
        dtype: its NumPy type.
        field: the repeated field of TensorProto with its values.
    """

    name: str
    dtype: np.dtype
    field: str


# By DataType of types.proto.
KINDS = {
    1: Kind("float", np.dtype(np.float32), "float_val"),
    2: Kind("double", np.dtype(np.float64), "double_val"),
    3: Kind("int32", np.dtype(np.int32), "int_val"),
    7: Kind("string", np.dtype(object), "string_val"),
    9: Kind("int64", np.dtype(np.int64), "int64_val"),
    10: Kind("bool", np.dtype(np.bool_), "bool_val"),
}
STRING = 7


def kind_name(code):
    """A type's name in messages."""
    return KINDS[code].name if code in KINDS else f"DataType {code}"


def decode(proto):
    """The array of a TensorProto; strings as an object array of bytes.

    As in TensorFlow, fewer values than elements repeat the last one, and none at all stand for
    zeros or "".

    Raises:
        ValueError: a type that is not served, no shape, too many elements, or values that do not
            fit the shape.
    """
    if proto.dtype not in KINDS:
        raise ValueError(f"DataType {proto.dtype}, served are {[k.name for k in KINDS.values()]}")
    kind = KINDS[proto.dtype]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise ValueError("the shape is unknown, every dimension must be given")
    count = math.prod(shape)
    if count > MOST_ELEMENTS:
        raise ValueError(f"shape {list(shape)}, at most {MOST_ELEMENTS} elements are served")
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
        if repeated > MOST_REPEATED_BYTES:
            raise ValueError(f"one value repeated for shape {list(shape)}, {repeated} bytes in all")
    array = np.full(
        count, (b"" if proto.dtype == STRING else 0) if not values else values[-1], kind.dtype
    )
    array[: len(values)] = values
    return array.reshape(shape)


def encode(array, proto) -> None:
    """Writes an array into an empty TensorProto, in typed fields as TensorFlow Serving does.

    Args:
        array: of a type in `KINDS`; strings as an object array of bytes.
        proto: the TensorProto.
    """
    proto.dtype = next(code for code, kind in KINDS.items() if kind.dtype == array.dtype)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, KINDS[proto.dtype].field).extend(array.ravel().tolist())
