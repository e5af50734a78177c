"""Sends requests to the REST interface of a server over the toy model of conftest.py."""

import http.client
import json

ROW = {"history": ["a", "b"], "exclude": [""]}
ANSWER = {"item_ids": ["c", "d", "e"], "scores": [13.0, 2.0, 1.0]}


def ask(server, method, path, body=None):
    connection = http.client.HTTPConnection(server.host, server.rest_port, timeout=30)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def predict(server, body, where=""):
    raw = body if isinstance(body, (str, bytes)) else json.dumps(body)
    status, text = ask(server, "POST", f"/v1/models/cmclrec{where}:predict", raw)
    return status, json.loads(text)
