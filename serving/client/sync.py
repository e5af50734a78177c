"""Implements `Client`, the blocking client of a served model."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import grpc

from cmclrec_tf.errors import InputError
from serving.client import channels
from serving.client.answers import Recommendations, ServingError, SimulatedHistory
from serving.client.base import BaseClient, Conversation
from serving.client.inputs import ItemLists, Kinds
from serving.client.messages import Call
from serving.client.protos import AnyMessage

_T = TypeVar("_T")


class Client(BaseClient):
    """Requests recommendations from TensorFlow Serving or from `cmclrec serve`.

    A context manager, and safe to share between threads. More than `ROWS` users are sent in several
    requests, one after the other.

    Args:
        target: `host:port` of the gRPC port.
        model_name: name under which the model is served.
        timeout: seconds that one request may take, retries included.
        version, version_label: number or label of the version to use. The server chooses the
            version when both are None.
        credentials: `grpc.ChannelCredentials`, such as `grpc.ssl_channel_credentials()`.
        root_certificates: PEM file; only its certificates are trusted. Without `credentials` and
            `root_certificates` the connection is not encrypted.
        wait_for_ready: if True, wait up to the timeout for a server that is not reachable yet.

    Raises:
        InputError: an option is invalid, or two options exclude each other.

    All methods raise `ServingError` if the server is unreachable, too slow, or refuses a request.

    Example:
        >>> from serving.client import Client
        >>> with Client("127.0.0.1:8500") as client:
        ...     answer = client.recommend({"history": ["a", "b"]}, k=2)
        ...     cold, warm = client.recommend_many([{"gender": "d"}, {"history": ["d"]}], k=1)
        >>> answer.item_ids, answer.scores
        (('c', 'd'), (13.0, 2.0))
        >>> cold.item_ids, cold.is_cold, warm.item_ids, warm.is_cold
        (('d',), True, ('e',), False)
    """

    def _open(self) -> None:
        self._channel = channels.open_channel(grpc, self.target, self._credentials)
        self._methods, self._probe = channels.methods(self._channel), channels.probe(self._channel)

    def recommend(self, user: Mapping[str, Any], k: int | None = None) -> Recommendations:
        """Returns the list of one user; see `recommend_many`."""
        return self._run(self._recommend(user, k))

    def recommend_many(
        self, users: Iterable[Mapping[str, Any]], k: int | None = None, first: int = 0
    ) -> list[Recommendations]:
        """Returns a list for each user, from whatever is known of the user.

        `warm` answers users with a history only, `cold` users with user features or nothing, and
        `serving_default` users with both, from both together. That signature cannot exclude items,
        so the client removes them from its list, which may leave fewer than `k`.

        Args:
            users: one mapping per user, with any of `history` (item ids, oldest first), `exclude`
                (further item ids that must not come back) and user features as in `cold`.
            k: length of the lists; the default, and the most, is the length set at export.
            first: number of the first user in error messages.

        Returns:
            `Recommendations`, in the order of the users.

        Raises:
            InputError: a user is not a mapping, an id has no text, the model has no such user
                feature, its value is of another kind, or k is below 1.
        """
        return self._run(self._recommend_many(users, k, first))

    def recommend_each(
        self, users: Iterable[Mapping[str, Any] | InputError], k: int | None = None, first: int = 0
    ) -> list[Recommendations | InputError | ServingError]:
        """Returns a list for each user, as `recommend_many` does, or what is wrong with the user.

        A user whom the client or the server refuses does not keep the others from their lists. If
        the server has no memory left for even one user, the call fails.

        Args:
            users: as in `recommend_many`. An `InputError` in place of a user, from reading the
                user, is returned in its place.
            k, first: as in `recommend_many`.

        Returns:
            In the order of the users, `Recommendations` or the error of this user.

        Raises:
            InputError: k is below 1.
        """
        return self._run(self._recommend_each(users, k, first))

    def warm(
        self, histories: ItemLists, exclude: ItemLists | None = None, k: int | None = None
    ) -> list[Recommendations]:
        """Returns a list for each user with a history, from the history alone.

        Args:
            histories: one list of item ids per user, oldest first.
            exclude: further item ids that must not come back, one list per user.
            k: as in `recommend_many`.

        Returns:
            `Recommendations`, in the order of the histories.

        Raises:
            InputError: an id has no text, the numbers of lists differ, or k is below 1.
        """
        return self._run(self._warm(histories, exclude, k))

    def cold(
        self,
        users: Iterable[Mapping[str, Any]],
        exclude: ItemLists | None = None,
        k: int | None = None,
    ) -> list[Recommendations]:
        """Returns a list for each user without a history, from user features.

        Args:
            users: `{user feature: value}` for each user. A value is one string (categorical), a
                list of strings (multi), a number (numeric) or a list of numbers (vector), as
                `features` says. Instead of a string a number may stand, such as 1 or 1.0 for "1".
                Features that are left out are missing.
            exclude: item ids that must not come back, one list per user.
            k: as in `recommend_many`.

        Returns:
            `Recommendations`, in the order of the users.

        Raises:
            InputError: the model has no such user feature, its value is of another kind, or as in
                `warm`.
        """
        return self._run(self._cold(users, exclude, k))

    def simulated_history(self, user: Mapping[str, Any]) -> SimulatedHistory:
        """Returns the history that the model simulates for user features: it explains `cold`.

        Args:
            user: `{user feature: value}`, as in `cold`; a history has no place here.

        Raises:
            InputError: as in `cold`.
            ServingError: FAILED_PRECONDITION if the served model is an older export, without the
                signature `simulated_history`.
        """
        return self._run(self._simulated_history(user))

    def features(self) -> Kinds:
        """Returns the kind of each user feature of the served model; a vector's is its length.

        The client requests them once and caches them. It requests them again when the server
        refuses a request or a user has an unknown feature, since another model may be served.
        """
        return self._run(self._features())

    def status(self) -> dict[int, str]:
        """Returns the state of each version of the model, such as `{3: "AVAILABLE"}`."""
        return self._run(self._status())

    def metadata(self) -> dict[str, AnyMessage]:
        """Returns the `SignatureDef` of each signature of the model."""
        return self._run(self._metadata())

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, conversation: Conversation[_T]) -> _T:
        try:
            calls = next(conversation)
            while True:
                try:
                    responses = [self._send(call) for call in calls]
                except ServingError as error:
                    calls = conversation.throw(error)
                else:
                    calls = conversation.send(responses)
        except StopIteration as stop:
            result: _T = stop.value
            return result

    def _send(self, call: Call) -> AnyMessage:
        seconds = channels.request_seconds(self.timeout)
        try:
            return self._methods[call.method](
                call.request, timeout=seconds, wait_for_ready=self.wait_for_ready
            )
        except grpc.RpcError as error:
            cause = self._connection_error() if channels.is_late(error) else None
            raise channels.failure(self.target, call.name, cause or error) from error

    def _connection_error(self) -> grpc.RpcError | None:
        """Returns why the server cannot be reached; None if there is a connection."""
        try:
            self._probe()
        except grpc.RpcError as error:
            return error if channels.is_unreachable(error) else None
        return None
