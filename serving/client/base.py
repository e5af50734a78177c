"""Implements everything that both clients share, except sending requests.

Each method is a conversation: a generator that yields calls which may be sent at once, receives
their responses, and returns the result. If a call fails, the client throws its `ServingError` into
the generator.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc

from cmclrec_tf.errors import InputError
from serving.client import channels, inputs, messages, users
from serving.client.answers import Recommendations, ServingError, SimulatedHistory
from serving.client.inputs import ItemLists, Kinds
from serving.client.messages import Call
from serving.client.protos import AnyMessage
from serving.contract import COLD, HOST, MODEL_NAME, PORT, SIMULATED_HISTORY

_T = TypeVar("_T")
Conversation: TypeAlias = Generator[list[Call], list[AnyMessage], _T]
Answer: TypeAlias = Recommendations | InputError | ServingError
"""The list of one user, or why there is none."""
DEFAULT_TARGET = f"{HOST}:{PORT}"
# The server refuses what is sent, not the client; fewer users may be accepted.
_REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
# In what gRPC says of a message that exceeds a limit.
_TOO_LARGE = "larger than max"


@dataclasses.dataclass
class _Refreshes:
    """How often a call of the user may still request the user features again."""

    left: int = 1


class BaseClient:
    """The options of a client and its conversations; `Client` explains both."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        model_name: str = MODEL_NAME,
        timeout: float = 5.0,
        *,
        version: int | None = None,
        version_label: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        root_certificates: str | pathlib.Path | None = None,
        wait_for_ready: bool = True,
    ) -> None:
        if credentials is not None and root_certificates is not None:
            raise InputError(
                "credentials and root_certificates", "only one of them is used", "Leave one out."
            )
        if root_certificates is not None:
            credentials = channels.root_credentials(root_certificates)
        self.timeout = channels.checked_timeout(timeout)
        self.target, self.model_name, self.wait_for_ready = target, model_name, wait_for_ready
        self._model = messages.Model(model_name, version, version_label)
        self._credentials = credentials
        self._kinds: Kinds | None = None
        self._open()

    def _open(self) -> None:
        """Opens the connection, unless the client opens it with its first request."""

    def _recommend(self, user: Mapping[str, Any], k: int | None) -> Conversation[Recommendations]:
        (answer,) = yield from self._recommend_many([user], k, 0)
        return answer

    def _recommend_many(
        self, mappings: Iterable[Mapping[str, Any]], k: int | None, first: int
    ) -> Conversation[list[Recommendations]]:
        return (yield from self._lists(users.from_mappings(mappings, first), k))

    def _recommend_each(
        self, mappings: Iterable[Mapping[str, Any] | InputError], k: int | None, first: int
    ) -> Conversation[list[Answer]]:
        """Requests the lists of the users that can be sent; returns the errors of the others."""
        _check_length(k)
        people = [users.from_mapping_or_error(m, i) for i, m in enumerate(mappings, first)]
        kinds: Kinds = {}
        is_cached, refreshes = self._kinds is not None, _Refreshes()
        if any(isinstance(user, users.User) and user.needs_kinds for user in people):
            kinds = yield from self._features()
        errors = users.errors(people, kinds)
        # Another model may be served since its features were cached.
        if kinds and is_cached and any(errors):
            refreshes.left -= 1
            kinds = yield from self._features(refresh=True)
            errors = users.errors(people, kinds)
        pairs = zip(people, errors, strict=True)
        sendable = [user for user, error in pairs if isinstance(user, users.User) and not error]
        answers = iter((yield from self._halves(sendable, k, refreshes)))
        return [error or next(answers) for error in errors]

    def _halves(
        self, people: list[users.User], k: int | None, refreshes: _Refreshes
    ) -> Conversation[list[Answer]]:
        """Requests the lists of all users, and of each half if the server refuses the request.

        So a user whom the server refuses costs the others nothing.

        Raises:
            ServingError: the server fails, or has no memory left for even one user.
        """
        try:
            return list((yield from self._lists(people, k, refreshes)))
        except (InputError, ServingError) as error:
            if isinstance(error, ServingError) and error.code not in _REFUSALS:
                raise
            if len(people) == 1:
                if _is_overloaded(error):
                    raise
                return [error]
        half = len(people) // 2
        first = yield from self._halves(people[:half], k, refreshes)
        return first + (yield from self._halves(people[half:], k, refreshes))

    def _warm(
        self, histories: ItemLists, exclude: ItemLists | None, k: int | None
    ) -> Conversation[list[Recommendations]]:
        return (yield from self._lists(users.warm(histories, exclude), k))

    def _cold(
        self,
        features: Iterable[Mapping[str, Any]],
        exclude: ItemLists | None,
        k: int | None,
    ) -> Conversation[list[Recommendations]]:
        return (yield from self._lists(users.cold(features, exclude), k))

    def _simulated_history(self, user: Mapping[str, Any]) -> Conversation[SimulatedHistory]:
        people = users.simulated([user])
        try:
            (answer,) = yield from self._answers(people, messages.simulated_histories)
        except ServingError as error:
            if error.code == grpc.StatusCode.FAILED_PRECONDITION:
                yield from self._definition(SIMULATED_HISTORY)
            raise
        return answer

    def _features(self, refresh: bool = False) -> Conversation[Kinds]:
        """Returns the model's user features, from the cache unless `refresh` is set."""
        if self._kinds is None or refresh:
            self._kinds = inputs.feature_kinds((yield from self._definition(COLD)))
        return dict(self._kinds)

    def _definition(self, signature: str) -> Conversation[AnyMessage]:
        """Returns the `SignatureDef` of a signature.

        Raises:
            ServingError: the model has no such signature, as older exports.
        """
        signatures = yield from self._metadata()
        if signature not in signatures:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{self.target}: model {self.model_name!r} has no signature {signature!r}, only "
                f"{sorted(signatures)}. Serve a model that this release of cmclrec exported.",
            )
        return signatures[signature]

    def _status(self) -> Conversation[dict[int, str]]:
        return (yield from self._request(self._model.status(), messages.states))

    def _metadata(self) -> Conversation[dict[str, AnyMessage]]:
        return (yield from self._request(self._model.metadata(), messages.signatures))

    def _lists(
        self, people: list[users.User], k: int | None, refreshes: _Refreshes | None = None
    ) -> Conversation[list[Recommendations]]:
        """Requests the lists of all users; see `_answers`."""
        _check_length(k)
        read = functools.partial(messages.recommendations, k=k)
        return (yield from self._answers(people, read, refreshes))

    def _answers(
        self,
        people: list[users.User],
        read: Callable[[users.Batch, AnyMessage], list[_T]],
        refreshes: _Refreshes | None = None,
    ) -> Conversation[list[_T]]:
        """Requests an answer for each user.

        Another model may be served since its user features were cached. So after a failure that
        this can explain, the features are requested again; if they changed, so are the answers.

        Args:
            people: the users.
            read: returns the answers to a batch from the server's response.
            refreshes: how often the features may be requested again; by default once.
        """
        refreshes = refreshes or _Refreshes()
        need_kinds = any(user.needs_kinds for user in people)
        is_cached = self._kinds is not None
        kinds = (yield from self._features()) if need_kinds else {}
        try:
            return (yield from self._answers_by(kinds, people, read))
        except (InputError, ServingError) as error:
            if isinstance(error, ServingError):
                is_explained = error.code == grpc.StatusCode.INVALID_ARGUMENT
            else:
                is_explained = is_cached
            if not (need_kinds and is_explained and refreshes.left):
                raise
            refreshes.left -= 1
            new_kinds = yield from self._features(refresh=True)
            if new_kinds == kinds:
                raise
        return (yield from self._answers_by(new_kinds, people, read))

    def _answers_by(
        self,
        kinds: Kinds,
        people: list[users.User],
        read: Callable[[users.Batch, AnyMessage], list[_T]],
    ) -> Conversation[list[_T]]:
        """Requests an answer for each user, given the kinds of the model's user features."""
        batches = users.batches([user.resolved(kinds) for user in people])
        responses = yield [
            self._model.predict(batch.signature, batch.inputs(kinds)) for batch in batches
        ]
        answers: dict[int, _T] = {}
        for batch, response in zip(batches, responses, strict=True):
            of_batch = self._read(batch.signature, functools.partial(read, batch), response)
            answers.update(zip(batch.places, of_batch, strict=True))
        return [answers[place] for place in range(len(people))]

    def _request(self, call: Call, read: Callable[[AnyMessage], _T]) -> Conversation[_T]:
        """Sends one call and reads its response."""
        (response,) = yield [call]
        return self._read(call.name, read, response)

    def _read(self, name: str, read: Callable[[AnyMessage], _T], response: AnyMessage) -> _T:
        try:
            return read(response)
        except ValueError as error:
            raise ServingError(
                grpc.StatusCode.INTERNAL,
                f"{self.target}: the answer to {name} cannot be read: {error}. "
                "Point the target at TensorFlow Serving or at `cmclrec serve`.",
            ) from error


def _is_overloaded(error: InputError | ServingError) -> bool:
    """Whether the server refused a request for want of memory or threads, not for its size."""
    is_exhausted = (
        isinstance(error, ServingError) and error.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    return is_exhausted and _TOO_LARGE not in str(error)


def _check_length(k: int | None) -> None:
    if k is not None and k < 1:
        raise InputError(f"k={k}", "a list holds at least one item", "Give a positive k.")
