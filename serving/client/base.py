"""What a client can be asked, apart from how it sends requests.

The methods that ask are generators, `_steps` of a conversation: they yield `messages.Call`s that
may be sent at once, and go on with their responses, or with the `ServingError` of one of them.
"""

import grpc

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import EXCLUDE, HISTORY
from serving.client import channels, inputs, messages, users
from serving.client.answers import ServingError
from serving.contract import COLD, HOST, MODEL_NAME, PORT, SERVING_DEFAULT, WARM


class Asking:
    """A client of one served model, see `client.Client` and `async_client.AsyncClient`.

    Args:
        target: `host:port` of the gRPC port.
        model_name: the name that the model is served under.
        timeout: seconds that one request may take, with all its retries.
        version, version_label: which version to ask; the server chooses when both are None.
        credentials: `grpc.ChannelCredentials`, such as `grpc.ssl_channel_credentials()`.
        root_certificates: file of PEM, to trust its certificates and no others; with neither of
            these two, nothing is encrypted.
        wait_for_ready: whether to wait, until the timeout, for a server that is not there yet or
            starts again.

    Every method raises `ServingError` when the server is not reachable, is too slow or refuses.

    Raises:
        InputError: a timeout that is none, or two options that exclude one another.
    """

    def __init__(
        self,
        target=f"{HOST}:{PORT}",
        model_name=MODEL_NAME,
        timeout=5.0,
        *,
        version=None,
        version_label=None,
        credentials=None,
        root_certificates=None,
        wait_for_ready=True,
    ):
        if credentials is not None and root_certificates is not None:
            raise InputError(
                "credentials and root_certificates", "one of them is used", "Leave one out."
            )
        if root_certificates is not None:
            credentials = channels.root_credentials(root_certificates)
        self.timeout = channels.checked_timeout(timeout)
        self.target, self.model_name, self.wait_for_ready = target, model_name, wait_for_ready
        self._model = messages.Model(model_name, version, version_label)
        self._credentials = credentials
        self._kinds = None
        self._open()

    def recommend(self, user, k=None):
        """Recommends to one user, as `recommend_many` does.

        Returns:
            `Recommendations`.
        """
        return self._run(self._recommend_one(user, k))

    def recommend_many(self, users, k=None, first=0):
        """Recommends to users of whom anything is known.

        `warm` answers who has a history only, `cold` who has user features or nothing. Who has
        both is sent to `serving_default`, where the model decides; that signature has no input
        for items to exclude, so they are taken out of its list here, which may leave fewer.

        Args:
            users: a mapping each, with any of `history` (item ids, oldest first), `exclude`
                (further item ids that must not come back) and user features as in `cold`.
            k: length of the lists; by default, and at most, what the model was exported with.
            first: number of the first user in messages.

        Returns:
            `Recommendations`, one a user, in their order.

        Raises:
            InputError: a user that is no mapping, ids that are not strings, a user feature that
                the model does not know or of another kind, a k below 1.
        """
        return self._run(self._recommend_many(users, k, first))

    def warm(self, histories, exclude=None, k=None):
        """Recommends to users with a history, from it alone.

        Args:
            histories: item ids, oldest first, one sequence a user.
            exclude: further item ids that must not come back, one sequence a user.
            k: as in `recommend_many`.

        Returns:
            `Recommendations`, one a user.

        Raises:
            InputError: ids that are not strings, a list too few or too many, a k below 1.
        """
        return self._run(self._warm(histories, exclude, k))

    def cold(self, users, exclude=None, k=None):
        """Recommends to users without a history.

        Args:
            users: `{user feature: value}` a user: one string (categorical), a list of strings
                (multi), a number (numeric) or a list of them (a vector), as `features` tells;
                what is left out is missing.
            exclude, k: as in `warm`.

        Returns:
            `Recommendations`, one a user.

        Raises:
            InputError: a user feature that the model does not know or of another kind, or as in
                `warm`.
        """
        return self._run(self._cold(users, exclude, k))

    def features(self):
        """{user feature: kind, or length of a vector} of the served model, asked for once.

        Asked for again when the model refuses a request, or a user has a feature that is not
        among them: another model may be served by now.
        """
        return self._run(self._features())

    def status(self):
        """{version: state} of the model, a state being AVAILABLE, LOADING, ..."""
        return self._run(self._ask_one(self._model.status(), messages.states))

    def metadata(self):
        """{signature: SignatureDef} of the model."""
        return self._run(self._ask_one(self._model.metadata(), messages.signatures))

    def _open(self):
        """Opens the connection, unless that has to wait for the first request."""

    def _run(self, steps):
        """Holds a conversation and returns its result, or something to await for it."""
        raise NotImplementedError

    def _recommend_one(self, user, k):
        (answer,) = yield from self._recommend_many([user], k, 0)
        return answer

    def _recommend_many(self, given, k, first):
        _check_length(k)
        histories, exclude, features = users.split(list(given), first)
        ask = lambda known: self._lists(
            users.read(histories, exclude, features, known, first), known, k
        )
        if users.need_features(histories, features):
            return (yield from self._knowing(ask))
        return (yield from ask({}))

    def _warm(self, histories, exclude, k):
        _check_length(k)
        histories = inputs.item_lists(histories, HISTORY)
        exclude = inputs.item_lists(exclude, EXCLUDE, len(histories))
        rows = zip(histories, exclude, strict=True)
        return (yield from self._lists([users.User(WARM, *row) for row in rows], {}, k))

    def _cold(self, given, exclude, k):
        _check_length(k)
        given = list(given)
        exclude = inputs.item_lists(exclude, EXCLUDE, len(given))

        def ask(known):
            rows = zip(exclude, inputs.read_features(given, known), strict=True)
            found = [users.User(COLD, [], hidden, values) for hidden, values in rows]
            return self._lists(found, known, k)

        return (yield from self._knowing(ask))

    def _knowing(self, ask):
        """Asks with the model's user features, and once more if they are others by now."""
        cached = self._kinds is not None
        known = yield from self._features()
        try:
            return (yield from ask(known))
        except InputError:
            if not cached:
                raise
            fresh = yield from self._features(again=True)
            if fresh == known:
                raise
        except ServingError as error:
            if error.code != grpc.StatusCode.INVALID_ARGUMENT:
                raise
            fresh = yield from self._features(again=True)
            if fresh == known:
                raise
        return (yield from ask(fresh))

    def _features(self, again=False):
        if self._kinds is None or again:
            signatures = yield from self._ask_one(self._model.metadata(), messages.signatures)
            if COLD not in signatures:
                raise ServingError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"{self.target}: model {self.model_name!r} has no signature 'cold', only "
                    f"{sorted(signatures)}. Serve a model that cmclrec exported.",
                )
            self._kinds = inputs.kinds(signatures[COLD])
        return dict(self._kinds)

    def _lists(self, asked, known, k):
        parts = users.parts(asked)
        chosen = [[asked[place] for place in places] for _, places in parts]
        requests = [
            self._model.predict(signature, users.signature_inputs(signature, part, known))
            for (signature, _), part in zip(parts, chosen, strict=True)
        ]
        responses = yield requests
        found = {}
        for (signature, places), part, response in zip(parts, chosen, responses, strict=True):
            excluded = [user.exclude if signature == SERVING_DEFAULT else () for user in part]
            lists = self._read(
                signature, messages.recommendations, response, signature, k, excluded
            )
            found.update(zip(places, lists, strict=True))
        return [found[place] for place in range(len(asked))]

    def _ask_one(self, call, read):
        (response,) = yield [call]
        return self._read(call.what, read, response)

    def _read(self, what, read, response, *asked):
        try:
            return read(response, *asked)
        except ValueError as error:
            raise ServingError(
                grpc.StatusCode.INTERNAL,
                f"{self.target}: the answer to {what} cannot be read: {error}. "
                "Point the target at TensorFlow Serving or at `cmclrec serve`.",
            ) from error


def _check_length(k):
    if k is not None and k < 1:
        raise InputError(f"k={k}", "a list holds at least one item", "Give a positive k.")
