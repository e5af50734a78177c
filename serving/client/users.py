"""Groups users into batches, each for the signature that fits what is known of its users."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, EXAMPLES, EXCLUDE, HISTORY, MULTI
from serving.client import inputs, protos
from serving.client.inputs import InputArray, ItemLists, Kinds
from serving.contract import COLD, MESSAGE_BYTES, SERVING_DEFAULT, SIMULATED_HISTORY, WARM

ROWS = 256
"""Largest number of users in one request."""
# Most elements of one padded input and most bytes of one request, far below what a server accepts.
_MAX_ELEMENTS = 2**20
_MAX_BYTES = MESSAGE_BYTES // 4


@dataclasses.dataclass(frozen=True)
class User:
    """One user of a call, made by `from_mappings`, `warm`, `cold` or `simulated`.

    Attributes:
        signature: signature to request; None means that `resolved` chooses it.
        history, exclude: item ids as bytes.
        features: user features, as the caller passed them; `resolved` converts them.
        number: number of the user in error messages.
    """

    signature: str | None
    history: list[bytes] = dataclasses.field(default_factory=list, repr=False)
    exclude: list[bytes] = dataclasses.field(default_factory=list, repr=False)
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    number: int = 0

    @property
    def needs_kinds(self) -> bool:
        """Whether a request for this user depends on the model's user features."""
        return self.signature != WARM and (bool(self.features) or not any(self.history))

    @property
    def width(self) -> tuple[int, int]:
        """Columns of the padded inputs that the user fills; similar users share a batch."""
        if self.signature == SERVING_DEFAULT:
            return 0, 0  # a serialized record needs no padding
        lists = (len(value) for value in self.features.values() if isinstance(value, list))
        return max(len(self.history), *lists, 0, 0), len(self.exclude)

    @property
    def size(self) -> int:
        """Bytes of the user's strings."""
        lists = (value if isinstance(value, list) else [value] for value in self.features.values())
        texts = [*self.history, *self.exclude, *(v for values in lists for v in values)]
        return sum(len(text) for text in texts if isinstance(text, bytes))

    def resolved(self, kinds: Kinds) -> "User":
        """Returns the user with converted features and a signature.

        `warm` answers users with a history only, `cold` users with user features or nothing, and
        `serving_default` users with both.

        Args:
            kinds: kinds of the model's user features, as `inputs.feature_kinds` returns them.

        Raises:
            InputError: the model has no such feature, or its value is of another kind.
        """
        features = inputs.feature_values(self.features, kinds, self.number)
        signature = self.signature
        if signature is None and not any(self.history):
            signature = COLD
        elif signature is None:
            has_features = any(map(inputs.is_present, features.values()))
            signature = SERVING_DEFAULT if has_features else WARM
        features = {} if signature == WARM else features
        return dataclasses.replace(self, signature=signature, features=features)


@dataclasses.dataclass(frozen=True)
class Batch:
    """The users of one request.

    Attributes:
        signature: signature to request.
        places: places of the users in the list that `batches` received.
        users: the users.
    """

    signature: str
    places: list[int]
    users: list[User]

    def inputs(self, kinds: Kinds) -> dict[str, InputArray]:
        """Returns the input arrays of the signature, by name."""
        if self.signature == SERVING_DEFAULT:
            return {EXAMPLES: np.array([record(user, kinds) for user in self.users], object)}
        exclude = inputs.rectangle([user.exclude for user in self.users])
        if self.signature == WARM:
            return {HISTORY: inputs.rectangle([u.history for u in self.users]), EXCLUDE: exclude}
        features = inputs.feature_arrays([user.features for user in self.users], kinds)
        return features if self.signature == SIMULATED_HISTORY else {**features, EXCLUDE: exclude}


def from_mappings(mappings: Iterable[Mapping[str, Any]], first: int = 0) -> list[User]:
    """Returns the users that mappings with `history`, `exclude` and user features describe.

    Args:
        mappings: one mapping per user; every key is optional.
        first: number of the first user in error messages.

    Raises:
        InputError: a user is not a mapping, or an id has no text.
    """
    return [from_mapping(mapping, number) for number, mapping in enumerate(mappings, first)]


def from_mapping(mapping: Mapping[str, Any], number: int) -> User:
    """Returns one user; see `from_mappings`."""
    _check_mapping(mapping, number)
    lists = {name: mapping.get(name) for name in (HISTORY, EXCLUDE)}
    history, exclude = (
        [] if items is None else inputs.item_list(items, name, number)
        for name, items in lists.items()
    )
    features = {name: value for name, value in mapping.items() if name not in lists}
    return User(None, history, exclude, features, number)


def from_mapping_or_error(
    mapping: Mapping[str, Any] | InputError, number: int
) -> User | InputError:
    """Returns one user, or why a mapping describes none; an `InputError` as it is."""
    if isinstance(mapping, InputError):
        return mapping
    try:
        return from_mapping(mapping, number)
    except InputError as error:
        return error


def errors(people: Iterable[User | InputError], kinds: Kinds) -> list[InputError | None]:
    """Returns for each user why `resolved` refuses it, or None; an error is its own reason."""
    result = []
    for user in people:
        reason = None if isinstance(user, User) else user
        if isinstance(user, User):
            try:
                user.resolved(kinds)
            except InputError as error:
                reason = error
        result.append(reason)
    return result


def warm(histories: ItemLists, exclude: ItemLists | None) -> list[User]:
    """Returns users for the `warm` signature.

    Raises:
        InputError: an id has no text, or the numbers of lists differ.
    """
    rows = inputs.item_lists(histories, HISTORY)
    excluded = inputs.item_lists(exclude, EXCLUDE, len(rows))
    return [User(WARM, *lists) for lists in zip(rows, excluded, strict=True)]


def cold(features: Iterable[Mapping[str, Any]], exclude: ItemLists | None) -> list[User]:
    """Returns users for the `cold` signature.

    Raises:
        InputError: a user is not a mapping, an id has no text, or the numbers of users and lists
            differ.
    """
    rows = list(features)
    excluded = inputs.item_lists(exclude, EXCLUDE, len(rows))
    people = []
    for number, (row, items) in enumerate(zip(rows, excluded, strict=True)):
        _check_mapping(row, number)
        people.append(User(COLD, [], items, row, number))
    return people


def simulated(features: Iterable[Mapping[str, Any]]) -> list[User]:
    """Returns users for the `simulated_history` signature.

    Raises:
        InputError: a user is not a mapping.
    """
    return [dataclasses.replace(u, signature=SIMULATED_HISTORY) for u in cold(features, None)]


def batches(users: list[User]) -> list[Batch]:
    """Divides users into batches of at most ROWS.

    Users of similar width share a batch, so that little padding is sent.

    Args:
        users: resolved users.
    """
    result = []
    for signature in (WARM, COLD, SERVING_DEFAULT, SIMULATED_HISTORY):
        places = [place for place, user in enumerate(users) if user.signature == signature]
        part: list[int] = []
        size = 0
        for place in sorted(places, key=lambda place: users[place].width):
            elements = (len(part) + 1) * max(*users[place].width, 1)
            is_large = elements > _MAX_ELEMENTS or size + users[place].size > _MAX_BYTES
            if len(part) == ROWS or (part and is_large):
                result.append(Batch(signature, part, [users[i] for i in part]))
                part, size = [], 0
            part.append(place)
            size += users[place].size
        if part:
            result.append(Batch(signature, part, [users[i] for i in part]))
    return result


def record(user: User, kinds: Kinds) -> bytes:
    """Returns the serialized record of a resolved user, without the features that are missing."""
    example = protos.Example()
    fields = example.features.feature
    fields[HISTORY].bytes_list.value.extend(user.history)
    for name, value in user.features.items():
        if not inputs.is_present(value):
            continue
        values = value if isinstance(value, list) else [value]
        is_text = kinds[name] in (CATEGORICAL, MULTI)
        field = fields[name].bytes_list if is_text else fields[name].float_list
        field.value.extend(values)
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def _check_mapping(user: object, number: int) -> None:
    if not isinstance(user, Mapping):
        raise InputError(
            f"user {number} (a {type(user).__name__})",
            "it must be a mapping of history, exclude and user features",
            "Pass one mapping per user.",
        )
