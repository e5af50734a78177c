"""Defines the protobuf messages that clients exchange with TensorFlow Serving.

TensorFlow's modules of these messages import the whole of TensorFlow. The classes here are built
from a table when this module is imported. They have TensorFlow's names, field numbers and types, so
the bytes are the same. Their descriptor pool is their own, so TensorFlow's modules can be imported
into the same process. Fields that no client needs are left out; protobuf skips them.
"""

from typing import Any, NamedTuple, TypeAlias

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

AnyMessage: TypeAlias = Any
"""A message of this module, whose fields a type checker cannot know."""


class _Field(NamedTuple):
    """A field: its number, its type, and the oneof to which it belongs.

    The type is a scalar of protobuf, or the full name of a message or enum. `label` is "optional",
    "repeated", or "map" for a map from strings to the type.
    """

    number: int
    type: str
    label: str = "optional"
    oneof: str = ""


_DTYPE, _SHAPE = "tensorflow.DataType", "tensorflow.TensorShapeProto"
_SPEC = "tensorflow.serving.ModelSpec"
_ENUMS = {
    _DTYPE: {
        "DT_INVALID": 0,
        "DT_FLOAT": 1,
        "DT_DOUBLE": 2,
        "DT_INT32": 3,
        "DT_STRING": 7,
        "DT_INT64": 9,
        "DT_BOOL": 10,
    },
    "tensorflow.serving.ModelVersionStatus.State": {
        "UNKNOWN": 0,
        "START": 10,
        "LOADING": 20,
        "AVAILABLE": 30,
        "UNLOADING": 40,
        "END": 50,
    },
}
# A nested message comes after the message that holds it.
_MESSAGES = {
    "tensorflow.BytesList": {"value": _Field(1, "bytes", "repeated")},
    "tensorflow.FloatList": {"value": _Field(1, "float", "repeated")},
    "tensorflow.Feature": {
        "bytes_list": _Field(1, "tensorflow.BytesList", oneof="kind"),
        "float_list": _Field(2, "tensorflow.FloatList", oneof="kind"),
    },
    "tensorflow.Features": {"feature": _Field(1, "tensorflow.Feature", "map")},
    "tensorflow.Example": {"features": _Field(1, "tensorflow.Features")},
    _SHAPE: {
        "dim": _Field(2, f"{_SHAPE}.Dim", "repeated"),
        "unknown_rank": _Field(3, "bool"),
    },
    f"{_SHAPE}.Dim": {"size": _Field(1, "int64"), "name": _Field(2, "string")},
    "tensorflow.TensorProto": {
        "dtype": _Field(1, _DTYPE),
        "tensor_shape": _Field(2, _SHAPE),
        "tensor_content": _Field(4, "bytes"),
        "float_val": _Field(5, "float", "repeated"),
        "double_val": _Field(6, "double", "repeated"),
        "int_val": _Field(7, "int32", "repeated"),
        "string_val": _Field(8, "bytes", "repeated"),
        "int64_val": _Field(10, "int64", "repeated"),
        "bool_val": _Field(11, "bool", "repeated"),
    },
    "tensorflow.TensorInfo": {
        "name": _Field(1, "string", oneof="encoding"),
        "dtype": _Field(2, _DTYPE),
        "tensor_shape": _Field(3, _SHAPE),
    },
    "tensorflow.SignatureDef": {
        "inputs": _Field(1, "tensorflow.TensorInfo", "map"),
        "outputs": _Field(2, "tensorflow.TensorInfo", "map"),
        "method_name": _Field(3, "string"),
    },
    _SPEC: {
        "name": _Field(1, "string"),
        # protobuf wants the fields of a oneof next to each other.
        "version": _Field(2, "google.protobuf.Int64Value", oneof="version_choice"),
        "version_label": _Field(4, "string", oneof="version_choice"),
        "signature_name": _Field(3, "string"),
    },
    "tensorflow.serving.PredictRequest": {
        "model_spec": _Field(1, _SPEC),
        "inputs": _Field(2, "tensorflow.TensorProto", "map"),
        "output_filter": _Field(3, "string", "repeated"),
    },
    "tensorflow.serving.PredictResponse": {
        "outputs": _Field(1, "tensorflow.TensorProto", "map"),
        "model_spec": _Field(2, _SPEC),
    },
    "tensorflow.serving.GetModelMetadataRequest": {
        "model_spec": _Field(1, _SPEC),
        "metadata_field": _Field(2, "string", "repeated"),
    },
    "tensorflow.serving.GetModelMetadataResponse": {
        "model_spec": _Field(1, _SPEC),
        "metadata": _Field(2, "google.protobuf.Any", "map"),
    },
    "tensorflow.serving.SignatureDefMap": {
        "signature_def": _Field(1, "tensorflow.SignatureDef", "map"),
    },
    "tensorflow.serving.GetModelStatusRequest": {"model_spec": _Field(1, _SPEC)},
    "tensorflow.serving.ModelVersionStatus": {
        "version": _Field(1, "int64"),
        "state": _Field(2, "tensorflow.serving.ModelVersionStatus.State"),
    },
    "tensorflow.serving.GetModelStatusResponse": {
        "model_version_status": _Field(1, "tensorflow.serving.ModelVersionStatus", "repeated"),
    },
}
# Each package is a file that may use the packages before it.
_PACKAGES = ("tensorflow", "tensorflow.serving")
_OPTIONAL = FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED = FieldDescriptorProto.LABEL_REPEATED
_WELL_KNOWN = (any_pb2.DESCRIPTOR, wrappers_pb2.DESCRIPTOR)


def _pool() -> Any:
    """Returns a descriptor pool with all messages of the table."""
    pool: Any = descriptor_pool.DescriptorPool()
    known = []
    for descriptor in _WELL_KNOWN:
        pool.AddSerializedFile(descriptor.serialized_pb)
        known.append(descriptor.name)
    for package in _PACKAGES:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"serving/client/{package}", package=package, syntax="proto3", dependency=known
        )
        holders: dict[str, Any] = {}  # messages of this file by full name
        for name, fields in _MESSAGES.items():
            if _package(name) == package:
                outer = holders.get(name.rpartition(".")[0])
                message = (outer.nested_type if outer else file.message_type).add()
                message.name = name.rpartition(".")[2]
                _add_fields(message, name, fields)
                holders[name] = message
        for name, values in _ENUMS.items():
            if _package(name) == package:
                outer = holders.get(name.rpartition(".")[0], file)
                enum = outer.enum_type.add(name=name.rpartition(".")[2])
                for value, number in values.items():
                    enum.value.add(name=value, number=number)
        pool.AddSerializedFile(file.SerializeToString())
        known.append(file.name)
    return pool


def _package(name: str) -> str:
    """Returns the package of a full name: the longest that it begins with."""
    return max((p for p in _PACKAGES if name.startswith(f"{p}.")), key=len)


def _add_fields(message: Any, full_name: str, fields: dict[str, _Field]) -> None:
    """Adds fields to a `DescriptorProto`, with the entries of its maps and its oneofs."""
    for name, field in fields.items():
        field_proto = message.field.add(name=name, number=field.number)
        field_proto.label = _OPTIONAL if field.label == "optional" else _REPEATED
        _set_type(field_proto, field.type)
        if field.label == "map":
            entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
            entry.options.map_entry = True
            for part, number, kind in (("key", 1, "string"), ("value", 2, field.type)):
                _set_type(entry.field.add(name=part, number=number, label=_OPTIONAL), kind)
            _set_type(field_proto, f"{full_name}.{entry.name}")
        if field.oneof:
            names = [oneof.name for oneof in message.oneof_decl]
            if field.oneof not in names:
                message.oneof_decl.add(name=field.oneof)
                names.append(field.oneof)
            field_proto.oneof_index = names.index(field.oneof)


def _set_type(field_proto: Any, kind: str) -> None:
    """Sets the type of a field: a scalar, an enum or a message."""
    is_scalar = "." not in kind
    name = kind if is_scalar else "enum" if kind in _ENUMS else "message"
    field_proto.type = FieldDescriptorProto.Type.Value(f"TYPE_{name.upper()}")
    if not is_scalar:
        field_proto.type_name = f".{kind}"


POOL = _pool()


def message_class(pool: Any, name: str) -> Any:
    """Returns the class of a message of a descriptor pool.

    Args:
        pool: the pool that has the message; untyped, as the types of its methods vary.
        name: full name of the message.
    """
    descriptor = pool.FindMessageTypeByName(name)
    # protobuf 3 has no GetMessageClass, and protobuf 5 no GetPrototype.
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    factory: Any = message_factory.MessageFactory(pool)
    return factory.GetPrototype(descriptor)


Example = message_class(POOL, "tensorflow.Example")
SignatureDefMap = message_class(POOL, "tensorflow.serving.SignatureDefMap")
PredictRequest = message_class(POOL, "tensorflow.serving.PredictRequest")
PredictResponse = message_class(POOL, "tensorflow.serving.PredictResponse")
GetModelMetadataRequest = message_class(POOL, "tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message_class(POOL, "tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = message_class(POOL, "tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message_class(POOL, "tensorflow.serving.GetModelStatusResponse")
_STATE = POOL.FindEnumTypeByName("tensorflow.serving.ModelVersionStatus.State")

METHODS = {
    "Predict": ("tensorflow.serving.PredictionService", PredictResponse),
    "GetModelMetadata": ("tensorflow.serving.PredictionService", GetModelMetadataResponse),
    "GetModelStatus": ("tensorflow.serving.ModelService", GetModelStatusResponse),
}
"""`{method: (service, class of the response)}` of the methods that clients call."""


def state_name(number: int) -> str:
    """Returns the name of the state of a model version, such as AVAILABLE."""
    value = _STATE.values_by_number.get(number)
    return value.name if value else f"STATE_{number}"
