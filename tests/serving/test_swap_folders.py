"""Tests swaps that requests, labels and folders make difficult; no request may fail."""

import http.client
import json
import logging
import shutil
import threading

import grpc
import pytest

from serving.server import manager
from tests.serving.eventually import eventually
from tests.serving.test_stopping import hold_requests
from tests.serving.test_swap import POLL, config_file, first, serving, truncated

BODY = json.dumps({"signature_name": "warm", "instances": [{"history": [""], "exclude": [""]}]})


class Load:
    """Callers that send requests until the end of the block, and note every answer.

    Attributes:
        answers: by caller, the answers in their order, of which none is repeated in a row.
        failures: what went wrong.
    """

    def __init__(self, **callers):
        self.answers, self.failures = {name: [] for name in callers}, []
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=[name, call])
            for name, call in callers.items()
        ]

    def _repeat(self, name, call):
        try:
            while not self._done.is_set():
                answer = call()
                if self.answers[name][-1:] != [answer]:
                    self.answers[name].append(answer)
        except Exception as error:
            self.failures.append((name, error))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._done.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures


def rest_caller(server, where=""):
    """A function that returns the best item, over one connection that it keeps."""
    connection = http.client.HTTPConnection(server.host, server.rest_port, timeout=30)
    connection.connect()
    kept = connection.sock

    def call():
        connection.request("POST", f"/v1/models/cmclrec{where}:predict", BODY)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        assert connection.sock is kept  # the server did not close it
        return json.loads(text)["predictions"][0]["item_ids"][0]

    return call


def versions_config(folder, base, versions, stable):
    numbers = " ".join(f"versions: {version}" for version in versions)
    return config_file(
        folder,
        base,
        f"model_version_policy {{ specific {{ {numbers} }} }} "
        f'version_labels {{ key: "stable" value: {stable} }}',
    )


def test_swaps_under_rest_load_while_a_label_moves(push, tmp_path):
    base = tmp_path / "cmclrec"
    push(base, 1)
    push(base, 2, other=True)
    path = versions_config(tmp_path, base, [1, 2], stable=2)
    with (
        serving(model_config_file=path, rest_api_port=0) as server,
        Load(
            newest=rest_caller(server),
            pinned=rest_caller(server, "/versions/1"),
            label=rest_caller(server, "/labels/stable"),
            grpc_newest=lambda: first(server),
            grpc_label=lambda: first(server, label="stable"),
        ) as load,
    ):
        for version in (3, 4, 5):
            push(base, version, other=version % 2 == 0)
            versions_config(tmp_path, base, [1, version], stable=version)
            eventually(lambda version=version: server.client.status().get(version) == "AVAILABLE")
            eventually(lambda version=version: load.answers["grpc_label"][-1][0] == version)
            eventually(lambda version=version: load.answers["label"][-1] == "ea"[version % 2])
    assert load.answers["pinned"] == ["a"]
    for name in ("newest", "label"):
        assert load.answers[name] == ["e", "a", "e", "a"]
    for name in ("grpc_newest", "grpc_label"):
        assert load.answers[name] == [(2, "e"), (3, "a"), (4, "e"), (5, "a")]


@pytest.mark.parametrize("pushed", [True, False], ids=["damaged", "missing"])
def test_a_label_stays_until_its_new_version_is_loaded(push, tmp_path, pushed):
    base = tmp_path / "cmclrec"
    push(base, 1)
    push(base, 2, other=True)
    path = versions_config(tmp_path, base, [1, 2], stable=2)
    with serving(model_config_file=path) as server:
        assert first(server, label="stable") == (2, "e")
        if pushed:
            push(base, 3, damage=truncated)
        versions_config(tmp_path, base, [1, 3], stable=3)
        threading.Event().wait(6 * POLL)
        with Load(label=lambda: first(server, label="stable")) as load:
            threading.Event().wait(2 * POLL)
            shutil.rmtree(base / "3", ignore_errors=True)
            push(base, 3)
            eventually(lambda: load.answers["label"][-1] == (3, "a"))
            eventually(lambda: 2 not in server._catalog.versions("cmclrec"))
        assert load.answers["label"] == [(2, "e"), (3, "a")]
        # A label that the file does not name any more is unknown.
        config_file(tmp_path, base)
        eventually(lambda: not server._catalog._labels["cmclrec"])
        with pytest.raises(grpc.RpcError) as caught:
            first(server, label="stable")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_that_does_not_end_holds_up_no_new_version(push, tmp_path, monkeypatch):
    monkeypatch.setattr(manager, "_RETIRE_SECONDS", 0.2)
    base = tmp_path / "cmclrec"
    push(base, 1)
    with serving(base) as server:
        held, servable = hold_requests(server)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(first(server)))
        asking.start()
        assert held.entered.wait(30)
        for version in (2, 3):
            push(base, version, other=version == 2)
            eventually(lambda version=version: server.version == version)
            assert first(server)[0] == version
        assert server.client.status()[1] == "UNLOADING" and servable.session._session
        held.release.set()
        asking.join(30)
        assert answers == [(1, "a")]
        eventually(lambda: server.client.status()[1] == "END" and not servable.session._session)


def only_the_version(base):
    shutil.rmtree(base / "1")


def base_path(base):
    base.rename(base.with_name("aside"))


def base_path_for_a_file(base):
    base.rename(base.with_name("aside"))
    base.write_text("")


@pytest.mark.parametrize("remove", [only_the_version, base_path, base_path_for_a_file])
def test_a_version_without_its_folder_stays_in_service(push, tmp_path, remove, caplog):
    """The log says so once; what is pushed later takes over, through a symbolic link as well."""
    caplog.set_level(logging.INFO, logger="serving")
    base = tmp_path / "cmclrec"
    push(base, 1)

    def events(name):
        return [r.cmclrec_fields for r in caplog.records if r.getMessage() == name]

    with serving(base, rest_api_port=0) as server:
        with Load(rest=rest_caller(server), grpc=lambda: first(server)) as load:
            remove(base)
            eventually(lambda: events("folder gone"))
            threading.Event().wait(4 * POLL)
            assert server.client.status() == {1: "AVAILABLE"}
            (fields,) = events("folder gone")
            assert fields["still_served"] == [1] and not events("folder back")
            push(tmp_path / "elsewhere", 2, other=True)
            if base.is_dir():
                base.rmdir()
            else:
                base.unlink(missing_ok=True)
            base.symlink_to(tmp_path / "elsewhere")
            eventually(lambda: first(server) == (2, "e"))
            eventually(lambda: load.answers["rest"][-1] == "e")
        assert load.answers["grpc"] == [(1, "a"), (2, "e")]
        eventually(lambda: server.client.status() == {2: "AVAILABLE"})
        assert len(events("folder back")) == 1
