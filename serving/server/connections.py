"""Caps the open connections of an asyncio server, so that idle callers cannot shut others out."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Callable, Iterator

# Files, gRPC and the models also need descriptors.
_SHARE_OF_DESCRIPTORS = 4
_ENOUGH = 2**16
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: 55\r\n\r\n"
    b'{"error": "Too many connections are open. Try later."}\n'
)


def affordable(most: int) -> int:
    """Returns a cap of connections that the process has file descriptors for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return most
    return max(1, min(most, descriptors // _SHARE_OF_DESCRIPTORS))


def raise_descriptors() -> None:
    """Lets the process open as many files and connections as its hard limit allows."""
    descriptors, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors != resource.RLIM_INFINITY:
        enough = _ENOUGH if most == resource.RLIM_INFINITY else min(most, _ENOUGH)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors, enough), most))


class ConnectionGate:
    """A protocol factory for `loop.create_server` that caps the open connections.

    A connection over the cap takes the place of the one that has waited longest for the head of a
    request. If every connection has a request under way, the new one is refused.

    Args:
        new_protocol: makes the protocol that answers a connection.
        most: open connections.
    """

    def __init__(self, new_protocol: Callable[[], asyncio.Protocol], most: int):
        self._new_protocol, self._most = new_protocol, most
        self._open: set[asyncio.BaseTransport] = set()
        # In the order in which they began to wait.
        self._waiting: dict[asyncio.BaseTransport, None] = {}

    def __call__(self) -> asyncio.Protocol:
        return _Connection(self, self._new_protocol())

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return len(self._open) > len(self._waiting)

    @contextlib.contextmanager
    def busy(self, transport: asyncio.BaseTransport | None) -> Iterator[None]:
        """Keeps a connection open for the duration of a block, which answers its request."""
        if transport is not None:
            self._waiting.pop(transport, None)
        try:
            yield
        finally:
            if transport in self._open:
                self._waiting[transport] = None

    def opened(self, transport: asyncio.Transport) -> None:
        """Counts a new connection and closes one if there are too many."""
        self._open.add(transport)
        self._waiting[transport] = None
        if len(self._open) > self._most:
            surplus = next(iter(self._waiting))
            self.closed(surplus)
            assert isinstance(surplus, asyncio.Transport)  # the others are not accepted
            surplus.write(_REFUSAL)
            # To close would wait until the caller reads, which it may never do.
            if surplus.get_write_buffer_size():
                surplus.abort()
            else:
                surplus.close()

    def closed(self, transport: asyncio.BaseTransport | None) -> None:
        """Forgets a connection."""
        if transport is not None:
            self._open.discard(transport)
            self._waiting.pop(transport, None)


class _Connection(asyncio.Protocol):
    """Passes the events of a connection on, and reports its start and end to the gate."""

    def __init__(self, gate: ConnectionGate, protocol: asyncio.Protocol):
        self._gate, self._protocol = gate, protocol
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # An answer counts as sent once the system has all of it, so that the time to read it is
        # bounded to its end and no tail of it is lost when the server stops.
        transport.set_write_buffer_limits(0)
        self._protocol.connection_made(transport)
        self._gate.opened(transport)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._gate.closed(self._transport)
        self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
