"""Starts a server, and sends it whole requests or parts of them without a client."""

import contextlib
import http.client
import json
import socket

import grpc

from serving.server.local_server import LocalServer

PATH = "/v1/models/cmclrec:predict"
METHOD = "/tensorflow.serving.PredictionService/Predict"
ROW = {"history": ["a", "b"], "exclude": [""]}
BODY = json.dumps({"signature_name": "warm", "instances": [ROW]}).encode()


@contextlib.contextmanager
def serving(base_path, **options):
    with LocalServer(base_path, port=0, rest_api_port=0, **options) as server:
        yield server


def ask(server, body=BODY, **headers):
    """Returns the status and the decoded answer of a REST request."""
    connection = http.client.HTTPConnection(server.host, server.rest_port, timeout=30)
    try:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", PATH, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def connect(server, text=b""):
    connection = socket.create_connection((server.host, server.rest_port), timeout=30)
    connection.sendall(text)
    return connection


def head(length):
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def channel_of(server):
    # Otherwise channels of one process share a connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(f"{server.host}:{server.port}", options=options)
