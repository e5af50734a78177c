"""Requests to this machine never go through a proxy; others follow the environment."""

import asyncio
import contextlib
import socket
import threading

import pytest

from serving.client import AsyncClient, Client, ServingError, loopback
from serving.server.local_server import LocalServer

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "HTTP_PROXY", "HTTPS_PROXY")
HERE = [
    *(
        "127.0.0.1:8500",
        "127.8.9.10",
        "localhost:8500",
        "LOCALHOST",
        "localhost.:1",
        "a.localhost:1",
    ),
    *("[::1]:8500", "::1", "[::ffff:127.0.0.1]:1", "0.0.0.0:8500", "[::]:8500", "[::1%lo]:1"),
    *("unix:/run/models.sock", "unix:///run/m", "unix-abstract:m", "dns:///localhost:8500"),
    *(
        "dns://8.8.8.8/localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.2:1",
        "ipv6:[::1]:8500",
        "DNS:localhost:1",
    ),
]
ELSEWHERE = [
    *("models:8500", "10.0.0.1:8500", "128.0.0.1", "[2001:db8::1]:8500", "localhost.example.com:1"),
    *("dns:///models:8500", "dns://127.0.0.1/models:8500", "ipv4:127.0.0.1:1,10.0.0.1:1"),
    *("127.0.0.1.example.com:1", "xds:///localhost", "notlocalhost:1", "[::ffff:10.0.0.1]:1"),
]


@pytest.fixture
def proxied(monkeypatch):
    """A function that makes an address the proxy of everything."""

    def set_proxy(address):
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://{address}")
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)

    return set_proxy


@pytest.fixture
def proxy(proxied):
    """A proxy of everything that refuses; the list of the first lines that it received.

    A connection that ends without a byte (a client that closes while it connects) adds no line.
    """
    lines = []

    def answer(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    if not (received := connection.recv(1000)):
                        continue
                    lines.append(received.split(b"\r\n")[0].decode())
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        proxied(f"127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield lines
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(("targets", "expected"), [(HERE, True), (ELSEWHERE, False)])
def test_addresses_on_this_machine(targets, expected):
    assert [t for t in targets if loopback.is_loopback(t) != expected] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_clients_reach_loopback_without_the_proxy(server, proxied, host):
    proxied("127.0.0.1:9")  # nothing listens there
    target = f"{host}:{server.port}"
    with Client(target, timeout=20.0, wait_for_ready=False) as client:
        assert client.warm([["a"]])[0].item_ids[0] == "b"

    async def ask():
        async with AsyncClient(target, timeout=20.0, wait_for_ready=False) as client:
            return await client.warm([["a"]])

    assert asyncio.run(ask())[0].item_ids[0] == "b"


def ask_elsewhere(host):
    with (
        Client(f"{host}:8500", timeout=1.0, wait_for_ready=False) as client,
        pytest.raises(ServingError, match="UNAVAILABLE"),
    ):
        client.warm([["a"]])


def test_other_hosts_follow_the_environment(proxy, monkeypatch):
    ask_elsewhere("models.invalid")
    monkeypatch.setenv("no_proxy", "direct.invalid")
    ask_elsewhere("direct.invalid")
    assert proxy and set(proxy) == {"CONNECT models.invalid:8500 HTTP/1.1"}


def test_the_load_generator_follows_the_same_rules(base_path, proxy):
    from serving.load import open_loop

    async def statuses(*senders):
        result = []
        for sender in senders:
            async with sender as running:
                result.append(await running.send(b"", 5.0))
        return result

    with LocalServer(base_path, port=0, rest_api_port=0) as server:
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/cmclrec"
        target = f"127.0.0.1:{server.port}"
        here = asyncio.run(statuses(open_loop.RestSender(url), open_loop.GrpcSender(target)))
    assert here == ["HTTP 400", "INVALID_ARGUMENT"] and not proxy
    elsewhere = open_loop.RestSender("http://models.invalid/v1/models/cmclrec")
    assert asyncio.run(statuses(elsewhere)) == ["HTTP 403"]
    assert proxy == ["POST http://models.invalid/v1/models/cmclrec:predict HTTP/1.1"]
