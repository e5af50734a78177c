"""Requests that arrive together run as one batch."""

import collections
import dataclasses
import threading
import time

import grpc
import numpy as np

from cmclrec_tf.errors import InputError
from serving.c_api.session import SavedModelError
from serving.server import text_protos
from serving.server.requests import RequestError

# Rows of very different lengths cost more padded together than apart.
_MOST_CELLS = 2**18


@dataclasses.dataclass(frozen=True)
class Batching:
    """TensorFlow Serving's batching parameters, as far as they bear on a local server.

    Attributes:
        max_batch_size: rows of one run; a larger request runs alone.
        batch_timeout_micros: how long a batch that is not full waits for more requests. While all
            threads are busy requests gather anyway.
        max_enqueued_batches: full batches that may wait; what comes on top is refused.
        num_batch_threads: batches that run at once.
        pad_variable_length_inputs: whether requests with lists of different length share a batch,
            "" padding the shorter ones.

    Raises:
        InputError: a number out of bounds.
    """

    max_batch_size: int = 256
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 100
    num_batch_threads: int = 2
    pad_variable_length_inputs: bool = True

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), int(field.name != "batch_timeout_micros")
            if field.type is int and value < least:
                raise InputError(
                    f"{field.name}={value}", f"it is at least {least}", "Give a larger number."
                )

    @classmethod
    def read(cls, path):
        """The parameters of a BatchingParameters file.

        Raises:
            InputError: the file is none, or a number is out of bounds.
        """
        found = text_protos.batching_parameters(path)
        values = {"pad_variable_length_inputs": found.pad_variable_length_inputs}
        for field in dataclasses.fields(cls):
            if field.type is int and found.HasField(field.name):
                values[field.name] = getattr(found, field.name).value
        return cls(**values)


@dataclasses.dataclass(eq=False)
class _Task:
    """One request on its way through a queue."""

    inputs: dict
    rows: int
    arrived: float = dataclasses.field(default_factory=time.monotonic)
    woken: threading.Event = dataclasses.field(default_factory=threading.Event)
    leads: bool = False
    answers: dict | None = None
    error: Exception | None = None

    @property
    def done(self):
        return self.answers is not None or self.error is not None

    def end(self, answers=None, error=None):
        self.answers, self.error = answers, error
        self.woken.set()


class Direct:
    """Runs every request by itself.

    Args:
        session: `SavedModelSession`.
    """

    def __init__(self, session):
        self._session = session

    def run(self, signature, inputs, outputs, deadline=None):
        """The outputs `{name: array}` of one request; see `SavedModelSession.run`."""
        return self._session.run(signature, inputs, outputs)


class Batcher:
    """Runs requests of one signature that wait at the same time as one batch.

    There are no threads of its own: of the requests that wait, one leads, runs the batch for all of
    them and then hands the lead on. A request alone runs at once.

    Args:
        session: `SavedModelSession`.
        parameters: `Batching`.
        observe: (signature, requests, rows) is told of every batch.
    """

    def __init__(self, session, parameters, observe=lambda *_: None):
        self._session, self._parameters, self._observe = session, parameters, observe
        self._lock = threading.Lock()
        self._queues = collections.defaultdict(collections.deque)
        self._waiting = self._leading = 0

    def run(self, signature, inputs, outputs, deadline=None):
        """The outputs `{name: array}` of one request.

        Args:
            signature: its name.
            inputs: `{name: array}`, all with the same first dimension.
            outputs: names of the outputs wanted.
            deadline: on the monotonic clock; None for none.

        Raises:
            RequestError: UNAVAILABLE when too many requests wait, DEADLINE_EXCEEDED when the answer
                is not there in time.
            SavedModelError: what the model says of this request.
        """
        rows = {len(array) for array in inputs.values() if array.ndim}
        if len(rows) != 1 or not all(array.ndim for array in inputs.values()) or rows == {0}:
            return self._session.run(signature, inputs, outputs)
        task = _Task(inputs, rows.pop())
        outputs = sorted(outputs)
        queue = self._enqueue((signature, *outputs), task)
        while not task.leads and not task.done:
            remaining = None if deadline is None else max(0, deadline - time.monotonic())
            if not task.woken.wait(remaining):
                self._leave(queue, task)
                deadline = None
        if task.leads:
            self._lead(signature, outputs, queue, task)
        if task.error:
            raise task.error
        return task.answers

    def _enqueue(self, key, task):
        most = self._parameters.max_enqueued_batches * self._parameters.max_batch_size
        with self._lock:
            if self._waiting and self._waiting + task.rows > most:
                raise RequestError(
                    grpc.StatusCode.UNAVAILABLE,
                    f"The batch scheduling queue is full, {self._waiting} rows wait. Ask again "
                    "later, or of another server.",
                )
            self._waiting += task.rows
            queue = self._queues[key]
            queue.append(task)
            if self._leading < self._parameters.num_batch_threads:
                self._leading += 1
                task.leads = True
            return queue

    def _leave(self, queue, task):
        """Takes a late request out of its queue, unless its batch or its turn has come."""
        with self._lock:
            if task.leads or task not in queue:
                return
            queue.remove(task)
            self._waiting -= task.rows
        raise RequestError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "The deadline passed while the request waited. Allow more time.",
        )

    def _lead(self, signature, outputs, queue, own):
        """Runs batches until the own request is answered, then hands the lead on."""
        own.woken.clear()
        try:
            while not own.done:
                batch = self._gather(queue)
                if batch:
                    self._answer(signature, outputs, batch)
                else:
                    own.woken.wait()
        finally:
            self._hand_on()

    def _gather(self, queue):
        """The tasks of the next batch, oldest first; waits for more as the parameters say."""
        patience = self._parameters.batch_timeout_micros / 1e6
        if patience:
            end = time.monotonic() + patience
            while (left := end - time.monotonic()) > 0:
                with self._lock:
                    if sum(t.rows for t in queue) >= self._parameters.max_batch_size:
                        break
                time.sleep(min(left, 2e-4))
        with self._lock:
            batch = []
            while queue and (not batch or self._fits(batch, queue[0])):
                batch.append(queue.popleft())
            self._waiting -= sum(task.rows for task in batch)
            return batch

    def _fits(self, batch, task):
        rows = task.rows + sum(other.rows for other in batch)
        if rows > self._parameters.max_batch_size:
            return False
        for name, array in task.inputs.items():
            widths = {_width(other.inputs[name]) for other in batch} | {_width(array)}
            if len(widths) > 1 and not self._parameters.pad_variable_length_inputs:
                return False
            if rows * max(widths) > _MOST_CELLS:
                return False
        return True

    def _answer(self, signature, outputs, batch):
        rows = [task.rows for task in batch]
        self._observe(signature, len(batch), sum(rows))
        if len(batch) == 1:
            self._alone(signature, outputs, batch[0])
            return
        try:
            inputs = {
                name: _stack([task.inputs[name] for task in batch]) for name in batch[0].inputs
            }
            answers = self._session.run(signature, inputs, outputs)
            if any(array.shape[:1] != (sum(rows),) for array in answers.values()):
                raise SavedModelError(3, "an output without a row a user")
        except Exception:
            # One request must not spoil the answers of the others.
            for task in batch:
                self._alone(signature, outputs, task)
            return
        ends = np.cumsum(rows)
        for task, end in zip(batch, ends.tolist(), strict=True):
            task.end({name: array[end - task.rows : end] for name, array in answers.items()})

    def _alone(self, signature, outputs, task):
        try:
            task.end(self._session.run(signature, task.inputs, outputs))
        except Exception as error:
            task.end(error=error)

    def _hand_on(self):
        with self._lock:
            heads = [queue[0] for queue in self._queues.values() if queue]
            heirs = [head for head in heads if not head.leads]
            if heirs:
                heir = min(heirs, key=lambda task: task.arrived)
                heir.leads = True
                heir.woken.set()
            else:
                self._leading -= 1


def _width(array):
    """Values in a row."""
    return array.shape[1] if array.ndim > 1 else 1


def _stack(arrays):
    """Arrays [B, ...] below each other, "" filling the rows of narrower ones."""
    width = max(map(_width, arrays))
    if arrays[0].dtype != object or all(_width(array) == width for array in arrays):
        return np.concatenate(arrays)
    stacked = np.full((sum(map(len, arrays)), width), b"", object)
    start = 0
    for array in arrays:
        stacked[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return stacked
