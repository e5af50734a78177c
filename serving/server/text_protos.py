"""Reads TensorFlow Serving's configuration files, which are protocol buffers in text format."""

import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.message import Message

from cmclrec_tf.errors import InputError
from serving.client.protos import message_class

_FIELD = descriptor_pb2.FieldDescriptorProto
NUMBER, FLAG, TEXT = _FIELD.TYPE_INT64, _FIELD.TYPE_BOOL, _FIELD.TYPE_STRING
_PACKAGE = "cmclrec.serving"
_MessageT = TypeVar("_MessageT", bound=Message)


def monitoring_config(path: str | os.PathLike[str]) -> Any:
    """Returns the MonitoringConfig of a text file.

    Raises:
        InputError: the file cannot be read or holds no MonitoringConfig.
    """
    return read(path, _monitoring_types()["MonitoringConfig"]())


def model_server_config(path: str | os.PathLike[str]) -> Any:
    """Returns the ModelServerConfig of a text file.

    Raises:
        InputError: the file cannot be read or holds no ModelServerConfig.
    """
    from tensorflow_serving.config import model_server_config_pb2

    return read(path, model_server_config_pb2.ModelServerConfig())


def read(path: str | os.PathLike[str], message: _MessageT) -> _MessageT:
    """Fills a message from a text file and returns it.

    Raises:
        InputError: the file cannot be read or does not hold such a message.
    """
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
def _monitoring_types() -> dict[str, Any]:
    # No Python package contains this message.
    return message_types(
        {
            "PrometheusConfig": {"enable": FLAG, "path": TEXT},
            "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
        }
    )


def message_types(messages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Builds message classes from the names and types of their fields.

    They read and write text format only: the field numbers are not TensorFlow Serving's.

    Args:
        messages: `{message: {field: type}}`; a type is NUMBER, FLAG, TEXT or the name of a
            message, and a tuple of one type is a repeated field.

    Returns:
        `{message: class}`.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="cmclrec/serving.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            repeated = isinstance(kind, tuple)
            kind = kind[0] if repeated else kind
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            declaration = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                declaration.type, declaration.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                declaration.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_class(pool, f"{_PACKAGE}.{name}") for name in messages}
