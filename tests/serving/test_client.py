"""Tests `Client` with a real server: answers computed by hand, and refused arguments."""

import threading

import grpc
import numpy as np
import pytest

from cmclrec_tf.errors import InputError
from serving.client import ROWS, Client, Recommendations, ServingError
from serving.contract import SIGNATURES
from serving.server.local_server import LocalServer

Code = grpc.StatusCode


def test_warm(client):
    assert client.warm([["a", "b"], ["d"], []]) == [
        Recommendations(("c", "d", "e"), (13.0, 2.0, 1.0)),
        Recommendations(("e", "a", "b"), (11.0, 5.0, 4.0)),
        Recommendations(("a", "b", "c"), (5.0, 4.0, 3.0)),
    ]


def test_exclude_and_k(client):
    histories, exclude = [["a", "b"], ["d"]], [["c", "d"], []]
    assert client.warm(histories, exclude=exclude) == [
        Recommendations(("e",), (1.0,)),
        Recommendations(("e", "a", "b"), (11.0, 5.0, 4.0)),
    ]
    assert [r.item_ids for r in client.warm(histories, exclude=exclude, k=2)] == [
        ("e",),
        ("e", "a"),
    ]
    assert len(client.warm(histories, k=50)[1].item_ids) == 3
    (cold,) = client.cold([{}], exclude=[list("abcde")])
    assert cold == Recommendations((), ())


def test_cold(client):
    users = [
        {"gender": "d", "genres": ["c", "e"], "age": 0.5},
        {"genres": ("b",), "age": 3},
        {"gender": None, "genres": None, "age": None},
        {"gender": "", "genres": [], "age": float("nan")},
        {},
        {"gender": float("nan"), "genres": "d", "age": "20"},
    ]
    stranger = Recommendations(("a", "b", "c"), (5.0, 4.0, 3.0))
    assert client.cold(users) == [
        Recommendations(("d", "c", "e"), (22.0, 13.0, 11.5)),
        Recommendations(("b", "a", "e"), (14.0, 5.0, 4.0)),
        stranger,
        stranger,
        stranger,
        Recommendations(("e", "d", "a"), (21.0, 12.0, 5.0)),
    ]


def test_numbers_have_the_text_of_the_vocabularies():
    """The texts are those of `cmclrec_tf.data.text_forms`, as in the files and tables of data."""
    from serving.client import inputs

    kinds = {"zip": "categorical", "tags": "multi"}
    forms = [
        *((1, "1"), (1.0, "1"), (np.float32(2), "2"), (np.int64(3), "3"), (0.5, "0.5")),
        *((1e10, "10000000000"), ("1.0", "1.0"), (True, "true"), (float("nan"), ""), (None, "")),
    ]
    for value, text in forms:
        values = inputs.feature_values({"zip": value, "tags": [value]}, kinds, 0)
        assert values == {"zip": text.encode(), "tags": [text.encode()] if text else []}
    history = inputs.item_list([value for value, _ in forms], "history", 0)
    assert history == [text.encode() for _, text in forms]
    assert inputs.feature_values({"zip": np.array(7.0)}, kinds, 0)["zip"] == b"7"


def test_no_users(client):
    assert client.warm([]) == []
    assert client.cold([]) == []


def test_more_users_than_one_request_holds(client):
    histories = [["abcd"[i % 4]] for i in range(2 * ROWS + 3)]
    answers = client.warm(histories)
    assert [answer.item_ids[0] for answer in answers] == [
        "bcde"[i % 4] for i in range(2 * ROWS + 3)
    ]


def test_features_status_metadata(client):
    assert client.features() == {"gender": "categorical", "genres": "multi", "age": "numeric"}
    assert client.status() == {12: "AVAILABLE"}
    assert set(client.metadata()) == set(SIGNATURES)


@pytest.mark.parametrize(
    ("user", "texts"),
    [
        ({"height": 1}, ["'height'", "['age', 'gender', 'genres']"]),
        ({"gender": ["secret"]}, ["'gender'", "a list", "text or a number"]),
        ({"gender": "secret\ud800"}, ["'gender'", "a str", "lone surrogate"]),
        ({"genres": {"secret": 1}}, ["'genres'", "a dict", "text or a number"]),
        ({"genres": [["secret"]]}, ["'genres'", "a list", "text or a number"]),
        ({"age": "secret"}, ["'age'", "a number"]),
        ({"age": [1, 2]}, ["'age'", "a number"]),
        ({"age": float("inf")}, ["'age'", "float32"]),
    ],
)
def test_wrong_user_features(client, user, texts):
    with pytest.raises(InputError) as caught:
        client.cold([{}, user])
    for text in ["user 1", *texts]:
        assert text in str(caught.value)
    assert "secret" not in str(caught.value)


def test_wrong_lists(client):
    with pytest.raises(InputError, match="history of user 1"):
        client.warm([["a"], [["b"]]])
    with pytest.raises(InputError, match="history of user 0"):
        client.warm(["abc"])
    with pytest.raises(InputError, match="1 lists to exclude: there are 2 users"):
        client.warm([["a"], ["b"]], exclude=[["c"]])
    with pytest.raises(InputError, match="k=0"):
        client.warm([["a"]], k=0)
    with pytest.raises(InputError, match="timeout=0"):
        Client(timeout=0)


@pytest.mark.parametrize(("version", "exists"), [(12, True), (13, False)])
def test_version(target, version, exists):
    with Client(target, timeout=30.0, version=version) as client:
        asks = (client.status, client.metadata, lambda: client.warm([["a"]]))
        for ask in asks:
            if exists:
                assert ask()
                continue
            with pytest.raises(ServingError) as caught:
                ask()
            assert caught.value.code == Code.NOT_FOUND


def test_requests_name_version_and_label():
    from serving.client.messages import Model

    for method in ("status", "metadata"):
        spec = getattr(Model("m", 3), method)().request.model_spec
        assert (spec.name, spec.version.value) == ("m", 3)
        spec = getattr(Model("m", label="canary"), method)().request.model_spec
        assert (spec.WhichOneof("version_choice"), spec.version_label) == (
            "version_label",
            "canary",
        )
    assert Model("m").predict("warm", {}).request.model_spec.WhichOneof("version_choice") is None
    for wrong in ({"version": 1, "label": "x"}, {"version": -1}, {"version": "1"}):
        with pytest.raises(InputError):
            Model("m", **wrong)


def test_options_that_exclude_one_another(tmp_path):
    credentials = grpc.ssl_channel_credentials()
    with pytest.raises(InputError, match="credentials"):
        Client(credentials=credentials, root_certificates=tmp_path)
    with pytest.raises(InputError, match="readable file"):
        Client(root_certificates=tmp_path / "gone.pem")
    (tmp_path / "no.pem").write_text("none")
    with pytest.raises(InputError, match="PEM"):
        Client(root_certificates=tmp_path / "no.pem")


def test_ids_of_other_alphabets(client):
    (answer,) = client.warm([["Амели", "\udcff", "a"]])
    assert answer.item_ids[0] == "b"


def test_threads_share_a_client(client):
    wrong = []

    def ask(item, expected):
        for _ in range(15):
            if client.warm([[item]])[0].item_ids[0] != expected:
                wrong.append(item)
            if client.cold([{"gender": item}])[0].item_ids[0] != item:
                wrong.append(item)

    threads = [threading.Thread(target=ask, args=pair) for pair in zip("abcd", "bcde", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_real_export(exported, records):
    """The same client and server with the export of a trained model."""
    with (
        LocalServer(exported.parent, port=0) as server,
        Client(f"{server.host}:{server.port}", timeout=60.0) as client,
    ):
        assert client.features() == {
            "age": "numeric",
            "team": "categorical",
            "tags": "multi",
            "zip": "categorical",
        }
        warm = [user for user in records["test"] if user["segment"] == "warm"]
        histories = [user["history"] for user in warm]
        for answer, history in zip(client.warm(histories), histories, strict=True):
            assert len(answer.item_ids) == 10
            assert not set(answer.item_ids) & set(history)
            assert np.all(np.diff(answer.scores) <= 0)
        excluded = [list(answer.item_ids[:3]) for answer in client.warm(histories)]
        for answer, hidden in zip(client.warm(histories, excluded), excluded, strict=True):
            assert not set(answer.item_ids) & set(hidden)
        one, other, stranger = client.cold(
            [
                {"age": 22.0, "team": "team-0", "tags": ["t0", "both"], "zip": "0123"},
                {"age": 52.0, "team": "team-1", "tags": ["t1"], "zip": "1123"},
                {},
            ]
        )
        assert one.item_ids != other.item_ids
        simulated = client.simulated_history({"team": "team-0"})
        assert [len(items) for items in simulated.item_ids] == [5] * 8
        assert all(row[0] <= 1 and list(row) == sorted(row)[::-1] for row in simulated.scores)
        assert len(stranger.item_ids) == 10
        known = histories[0][0]
        users = [
            {"history": [known, "no such item", known]},
            {"history": ["no such item"]},
            {"history": ["no such item"], "team": "team-0"},
            {"history": [known], "team": "team-0"},
            {},
        ]
        answers = client.recommend_many(users)
        assert [(a.signature, a.is_cold, a.known_items, a.source) for a in answers] == [
            ("warm", False, 2, "history"),
            ("warm", False, 0, "popular"),
            ("serving_default", True, 0, "features"),
            ("serving_default", False, 1, "history"),
            ("cold", True, 0, "features"),
        ]
        assert set(answers[1].scores) == {0.0}
