"""Bounds the memory of the requests that a server holds at the same time."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

import grpc

from serving.server.requests import RequestError

# What becomes of one byte of a body: the body, its text, the strings in it, their bytes and the
# tensor. One character beyond Latin-1 makes Python store four bytes for each character of a text.
_COPIES, _WIDE_COPIES = 5, 11
# A Python object, its place in a list and its place in an array.
_BYTES_OF_A_VALUE = 160
# A packed integer of one byte takes eight. Each other field takes an object, however short it is:
# shapes and inputs (12), filters (1a), strings (42), resources (72) and variants (7a).
_MESSAGE_COPIES, _FIELDS = 8, (b"\x12", b"\x1a", b"\x42", b"\x72", b"\x7a")


def estimate(body: bytes, values: int) -> int:
    """Returns the memory in bytes that it takes to answer a JSON body.

    Args:
        body: the decompressed body.
        values: lists, objects and other values in it.
    """
    is_wide = not body.isascii() or b"\\u" in body
    return (_WIDE_COPIES if is_wide else _COPIES) * len(body) + _BYTES_OF_A_VALUE * values


def estimate_message(message: bytes) -> int:
    """Returns the memory in bytes that it takes to answer a gRPC message.

    Args:
        message: the message on the wire. A byte within a string that looks like a field counts too.
    """
    fields = sum(map(message.count, _FIELDS))
    return _MESSAGE_COPIES * len(message) + _BYTES_OF_A_VALUE * fields


class Memory:
    """Memory that requests share; threads may share it.

    Args:
        most: bytes of all shares together.
    """

    def __init__(self, most: int):
        self._most, self._taken = most, 0
        self._lock = threading.Lock()

    def share(self) -> Share:
        """Returns an empty share for one request."""
        return Share(self)

    def move(self, change: int) -> None:
        """Takes bytes, or returns them if `change` is negative.

        Raises:
            RequestError: RESOURCE_EXHAUSTED if too few are left.
        """
        with self._lock:
            if change > 0 and self._taken + change > self._most:
                raise RequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"All requests together would take more than {self._most} bytes of "
                    "memory. Send fewer or smaller requests at once, or try later.",
                )
            self._taken += change


class Share:
    """The memory of one request.

    Args:
        memory: the memory that it is a share of.
    """

    def __init__(self, memory: Memory):
        self._memory, self._taken = memory, 0
        self._user: futures.Future[Any] | None = None

    def resize(self, amount: int) -> None:
        """Sets the share to `amount` bytes.

        Raises:
            RequestError: RESOURCE_EXHAUSTED if too few are left.
        """
        self._memory.move(amount - self._taken)
        self._taken = amount

    def lend(self, user: futures.Future[Any]) -> None:
        """Keeps the bytes until a thread is done, even if the share is closed before."""
        self._user = user

    def close(self) -> None:
        """Returns all bytes."""
        if self._user is None:
            self.resize(0)
        else:
            self._user.add_done_callback(lambda _: self.resize(0))
