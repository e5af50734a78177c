"""Requests that run as one batch: the same answers, each its own errors, bounded waiting."""

import threading
import time

import grpc
import numpy as np
import pytest

from cmclrec_tf.errors import InputError
from serving.c_api.session import SavedModelError, SavedModelSession
from serving.server.batching import Batcher, Batching
from serving.server.requests import RequestError

WANTED = ["item_ids", "scores"]


@pytest.fixture(scope="module")
def session(saved_model):
    with SavedModelSession(saved_model) as loaded:
        yield loaded


def history(*rows):
    width = max(map(len, rows))
    array = np.full((len(rows), width), b"", object)
    for row, items in enumerate(rows):
        array[row, : len(items)] = [item.encode() for item in items]
    return {"history": array, "exclude": np.full((len(rows), 1), b"", object)}


class Gate:
    """A session that waits until it is opened, and tells the rows of every run."""

    def __init__(self, session):
        self._session, self.opened, self.runs = session, threading.Event(), []
        self.entered = threading.Event()

    def run(self, signature, inputs, outputs):
        self.entered.set()
        assert self.opened.wait(30)
        self.runs.append(len(next(iter(inputs.values()))))
        return self._session.run(signature, inputs, outputs)


def together(batcher, gate, asked, deadline=None):
    """Asks while the first request is held back, so that the others gather; their outcomes."""
    outcomes = [None] * len(asked)

    def ask(index):
        try:
            outcomes[index] = batcher.run(*asked[index], deadline=deadline)
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=ask, args=[index]) for index in range(len(asked))]
    threads[0].start()
    assert gate.entered.wait(30)
    for thread in threads[1:]:
        thread.start()
        time.sleep(0.01)
    gate.opened.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return outcomes


def test_waiting_requests_run_together(session):
    gate, told = Gate(session), []
    batcher = Batcher(gate, Batching(num_batch_threads=1), lambda *batch: told.append(batch))
    rows = [["a"], ["d", "b"], ["c", "c", "a", "d"], ["b"], ["e", "c"]]
    asked = [("warm", history(items), WANTED) for items in rows]
    asked.append(("warm", history(["a"], ["b", "c"]), WANTED))
    answers = together(batcher, gate, asked)
    assert gate.runs == [1, 6]
    assert told == [("warm", 1, 1), ("warm", 5, 6)]
    for answer, (_, inputs, _) in zip(answers, asked, strict=True):
        alone = session.run("warm", inputs, WANTED)
        assert answer["item_ids"].tolist() == alone["item_ids"].tolist()
        assert answer["scores"].tolist() == alone["scores"].tolist()


def test_signatures_and_outputs_are_kept_apart(session):
    gate = Gate(session)
    cold = {
        "gender": np.array([b"d"], object),
        "genres": np.array([[b"b", b"c"]], object),
        "age": np.array([np.nan], np.float32),
        "exclude": np.full((1, 1), b"", object),
    }
    asked = [("warm", history(["a"]), WANTED)] * 2
    asked += [("cold", cold, WANTED)] * 2 + [("warm", history(["b"]), ["scores"])]
    answers = together(Batcher(gate, Batching(num_batch_threads=1)), gate, asked)
    assert sorted(gate.runs) == [1, 1, 1, 2]
    assert [a["item_ids"][0, 0] for a in answers[:4]] == [b"b", b"b", b"d", b"d"]
    assert list(answers[4]) == ["scores"]


def test_a_wrong_request_spoils_no_other(session):
    gate = Gate(session)
    records = [b"", b"\xff\xff", b"", b"\xff"]
    asked = [
        ("serving_default", {"examples": np.array([record], object)}, WANTED) for record in records
    ]
    outcomes = together(Batcher(gate, Batching(num_batch_threads=1)), gate, [asked[0], *asked])
    assert [type(outcome) for outcome in outcomes[1:]] == [dict, SavedModelError] * 2
    assert outcomes[1]["item_ids"].tolist() == [[b"a", b"b", b"c"]]


def test_batches_are_bounded(session):
    gate = Gate(session)
    batcher = Batcher(gate, Batching(max_batch_size=4, num_batch_threads=1))
    sizes = [1, 3, 3, 1, 9, 1]
    asked = [("warm", history(*[["a"]] * size), WANTED) for size in sizes]
    answers = together(batcher, gate, asked)
    assert [len(answer["scores"]) for answer in answers] == sizes
    # A request larger than a batch runs alone.
    assert gate.runs == [1, 3, 4, 9, 1]


def test_long_rows_are_not_padded_to(session):
    gate = Gate(session)
    batcher = Batcher(gate, Batching(num_batch_threads=1))
    asked = [("warm", history(["a"]), WANTED)] * 3 + [("warm", history(["a"] * 200_000), WANTED)]
    together(batcher, gate, asked)
    assert gate.runs == [1, 2, 1]
    gate = Gate(session)
    batcher = Batcher(gate, Batching(num_batch_threads=1, pad_variable_length_inputs=False))
    together(batcher, gate, [("warm", history(["a"] * n), WANTED) for n in (1, 2, 2, 3)])
    assert gate.runs == [1, 2, 1]


def test_queue_is_bounded(session):
    gate = Gate(session)
    bounds = Batching(max_batch_size=2, max_enqueued_batches=1, num_batch_threads=1)
    outcomes = together(Batcher(gate, bounds), gate, [("warm", history(["a"]), WANTED)] * 5)
    refused = [outcome for outcome in outcomes if isinstance(outcome, RequestError)]
    assert [error.code for error in refused] == [grpc.StatusCode.UNAVAILABLE] * 2
    assert sum(isinstance(outcome, dict) for outcome in outcomes) == 3


def test_deadline_while_waiting(session):
    gate = Gate(session)
    batcher = Batcher(gate, Batching(num_batch_threads=1))
    held = threading.Thread(target=batcher.run, args=("warm", history(["a"]), WANTED))
    held.start()
    assert gate.entered.wait(30)
    start = time.monotonic()
    with pytest.raises(RequestError) as caught:
        batcher.run("warm", history(["a"]), WANTED, start + 0.1)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - start < 10
    gate.opened.set()
    held.join(30)
    assert gate.runs == [1]
    assert batcher.run("warm", history(["a"]), WANTED)["item_ids"][0, 0] == b"b"


def test_patience(session):
    """With a timeout a first request waits for others, though nothing holds it back."""
    gate = Gate(session)
    gate.opened.set()
    patient = Batching(batch_timeout_micros=2_000_000, max_batch_size=3, num_batch_threads=1)
    batcher, start = Batcher(gate, patient), time.monotonic()
    threads = [
        threading.Thread(target=batcher.run, args=("warm", history(["a"]), WANTED))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert gate.runs == [3]
    # A full batch waits no longer.
    assert time.monotonic() - start < 1.9


def test_many_threads(session):
    batcher, wrong = Batcher(session, Batching(max_batch_size=5, num_batch_threads=2)), []

    def ask(number):
        item = "abcd"[number % 4]
        for turn in range(60):
            rows = [[item] * (1 + (turn + number) % 3)] * (1 + turn % 3)
            answer = batcher.run("warm", history(*rows), WANTED, time.monotonic() + 30)
            if answer["item_ids"][:, 0].tolist() != ["bcde"[number % 4].encode()] * len(rows):
                wrong.append(item)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong
    assert batcher._waiting == batcher._leading == 0


def test_parameters_of_a_file(tmp_path):
    path = tmp_path / "batching_parameters.txt"
    path.write_text(
        "max_batch_size { value: 8 }\nnum_batch_threads { value: 3 } # comment\n"
        "pad_variable_length_inputs: true allowed_batch_sizes: 8"
    )
    assert Batching.read(path) == Batching(8, 0, 100, 3, True)
    path.write_text("")
    assert not Batching.read(path).pad_variable_length_inputs
    for text, said in (
        ("max_batch: 8", "BatchingParameters in text format"),
        ("max_batch_size { value: 0 }", "max_batch_size=0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros=-1"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            Batching.read(path)
    with pytest.raises(InputError, match="must be a BatchingParameters file"):
        Batching.read(tmp_path / "gone")
