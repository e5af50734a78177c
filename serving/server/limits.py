"""Defines the limits of one request to a local server, of all requests, and of connections."""

import dataclasses

from cmclrec_tf.errors import InputError
from serving.contract import MESSAGE_BYTES


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a server; what exceeds one is refused before the model runs.

    Attributes:
        message_bytes: size of a gRPC message or JSON body, also after decompression; also limits
            gRPC answers.
        rows: users in one request.
        list_length: strings in one row of an input (a history, an `exclude`, a multi feature).
        string_bytes: size of one item id or feature value.
        record_bytes: size of one serialized user record.
        json_values: lists, objects and other values in one JSON body.
        waiting_bytes: memory that all requests take together, by an estimate, from their arrival
            to their answers.
        connections: open connections, of REST and of gRPC each.
        idle_seconds: time in which a REST connection must send the head of its next request.

    Raises:
        InputError: a limit is below 1.
    """

    message_bytes: int = MESSAGE_BYTES
    rows: int = 4096
    list_length: int = 2**17
    string_bytes: int = 2**16
    record_bytes: int = 2**24
    json_values: int = 2**20
    waiting_bytes: int = 2**30
    connections: int = 1024
    idle_seconds: int = 60

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise InputError(
                    f"{field.name}={value}", "a limit is at least 1", "Give a positive number."
                )
