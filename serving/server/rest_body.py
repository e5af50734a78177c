"""Receives and decompresses the bodies of REST requests, with bounds on size, time and memory."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from aiohttp import web

from serving.server.requests import RequestError, caller_gone, invalid

if TYPE_CHECKING:
    from serving.server.memory import Share

_PLAIN, _GZIP, _DEFLATE = {"", "identity"}, {"gzip", "x-gzip"}, {"deflate"}
ENCODINGS = _PLAIN | _GZIP | _DEFLATE
# The deadline is checked after each step.
_STEP_BYTES = 2**20
# Each stream of a body costs a copy of what follows it.
_MOST_STREAMS = 1024


class TooLateError(RequestError):
    """The body did not arrive before the deadline."""

    def __init__(self):
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        super().__init__(code, "The body did not arrive in time. Send it faster.")


class TooLargeError(RequestError):
    """The body has more bytes than a message may have.

    Args:
        limit: number of bytes that a message may have.
    """

    def __init__(self, limit: int):
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        super().__init__(code, f"At most {limit} bytes are served. Split the request.")


def encoding_of(request: web.Request) -> str:
    """Returns the content encoding of a request in lower case; "" without one."""
    return ",".join(request.headers.getall("Content-Encoding", [])).strip().lower()


async def receive(request: web.Request, limit: int, deadline: float, share: Share) -> bytearray:
    """Returns the body as it was sent.

    Args:
        request: the request, whose application does not decompress.
        limit: largest number of bytes.
        deadline: latest arrival, by `time.monotonic`.
        share: grows with the bytes that have arrived.

    Raises:
        TooLateError, TooLargeError: see there.
        RequestError: INVALID_ARGUMENT if the framing of HTTP is broken, RESOURCE_EXHAUSTED if the
            server has no memory left, CANCELLED if the caller closes the connection.
    """
    if (request.content_length or 0) > limit:
        raise TooLargeError(limit)
    body = bytearray()
    try:
        while chunk := await asyncio.wait_for(
            request.content.readany(), max(0.0, deadline - time.monotonic())
        ):
            body += chunk
            if len(body) > limit:
                raise TooLargeError(limit)
            share.resize(len(body))
    except asyncio.TimeoutError:
        raise TooLateError from None
    except ConnectionError:
        raise caller_gone() from None
    except web.RequestPayloadError:
        raise invalid("The body breaks the framing of HTTP. Correct its length.") from None
    return body


def decompress(
    body: bytearray, encoding: str, limit: int, share: Share, check: Callable[[], None]
) -> bytes:
    """Returns the body without its content encoding; gzip may be several streams in a row.

    Args:
        body: the body as it was sent.
        encoding: one of `ENCODINGS`.
        limit: largest number of bytes after decompression.
        share: grows with the bytes.
        check: called now and then; raises an exception to stop.

    Raises:
        TooLargeError: see there.
        RequestError: INVALID_ARGUMENT if the body is not of this encoding.
    """
    if encoding in _PLAIN:
        return bytes(body)
    # zlib counts the window in bits and adds 16 for the header of gzip. Some callers send deflate
    # without the header of zlib, whose low four bits are 8.
    raw_deflate = encoding in _DEFLATE and body[:1] and body[0] & 15 != 8
    bits = zlib.MAX_WBITS + 16 if encoding in _GZIP else zlib.MAX_WBITS
    new_stream = lambda: zlib.decompressobj(-zlib.MAX_WBITS if raw_deflate else bits)
    most = _MOST_STREAMS if encoding in _GZIP else 1
    stream, streams, plain = new_stream(), 1, bytearray()
    try:
        for start in range(0, len(body), _STEP_BYTES):
            rest, step = bytes(body[start : start + _STEP_BYTES]), b""
            # A step of full size may leave bytes inside the stream.
            while rest or (len(step) == _STEP_BYTES and not stream.eof):
                if stream.eof:
                    if streams == most:
                        raise _not_of(encoding)
                    stream, streams = new_stream(), streams + 1
                step = stream.decompress(rest, _STEP_BYTES)
                plain += step
                if len(plain) > limit:
                    raise TooLargeError(limit)
                share.resize(len(body) + len(plain))
                check()
                rest = stream.unconsumed_tail or stream.unused_data
    except zlib.error:
        raise _not_of(encoding) from None
    if not stream.eof:
        raise _not_of(encoding)
    return bytes(plain)


def _not_of(encoding: str) -> RequestError:
    return RequestError(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"The body is not one complete {encoding} stream (gzip: at most {_MOST_STREAMS} in a row). "
        "Correct Content-Encoding or the body.",
    )
