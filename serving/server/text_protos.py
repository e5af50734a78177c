"""TensorFlow Serving's configuration files, read as TensorFlow Serving reads them."""

import functools
import pathlib

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from cmclrec_tf.errors import InputError

_FIELD = descriptor_pb2.FieldDescriptorProto
_NUMBER, _FLAG, _TEXT = _FIELD.TYPE_INT64, _FIELD.TYPE_BOOL, _FIELD.TYPE_STRING
# Two of the messages are in no Python package: message: {field: type}. A text file needs the names
# alone, so the numbers are given in order.
_MESSAGES = {
    "Int64Value": {"value": _NUMBER},
    "StringValue": {"value": _TEXT},
    "BoolValue": {"value": _FLAG},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": (_NUMBER,),
        "pad_variable_length_inputs": _FLAG,
        "max_execution_batch_size": "Int64Value",
        "enable_large_batch_splitting": "BoolValue",
    },
    "PrometheusConfig": {"enable": _FLAG, "path": _TEXT},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}


def batching_parameters(path):
    """The BatchingParameters of a text file.

    Raises:
        InputError: the file cannot be read or is none.
    """
    return _read(path, _types()["BatchingParameters"]())


def monitoring_config(path):
    """The MonitoringConfig of a text file.

    Raises:
        InputError: the file cannot be read or is none.
    """
    return _read(path, _types()["MonitoringConfig"]())


def model_server_config(path):
    """The ModelServerConfig of a text file.

    Raises:
        InputError: the file cannot be read or is none.
    """
    from tensorflow_serving.config import model_server_config_pb2

    return _read(path, model_server_config_pb2.ModelServerConfig())


def _read(path, message):
    kind = message.DESCRIPTOR.name
    try:
        return text_format.Parse(pathlib.Path(path).read_text("utf-8"), message)
    except OSError as error:
        raise InputError(
            path, f"it must be a {kind} file ({error.strerror})", "Correct the path."
        ) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"it must hold a {kind} in text format ({error})", "Correct the file."
        ) from error


@functools.cache
def _types():
    """{message name: class}."""
    package = "cmclrec.serving"
    file = descriptor_pb2.FileDescriptorProto(
        name="cmclrec/serving.proto", package=package, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            repeated = isinstance(kind, tuple)
            kind = kind[0] if repeated else kind
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"{package}.{name}") for name in _MESSAGES}
    if hasattr(message_factory, "GetMessageClass"):
        return {name: message_factory.GetMessageClass(kind) for name, kind in found.items()}
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(kind) for name, kind in found.items()}
