"""Users as callers describe them, to the inputs of the signature that answers each of them."""

import collections.abc
import dataclasses
import math

import numpy as np
from tensorflow.core.example import example_pb2

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, EXAMPLES, EXCLUDE, HISTORY, MULTI
from serving.client import inputs
from serving.contract import COLD, SERVING_DEFAULT, WARM

ROWS = 256
# Of one padded input, far below what a server takes.
_MOST_ELEMENTS = 2**20


@dataclasses.dataclass(frozen=True)
class User:
    """One user, read and checked.

    Attributes:
        signature: that is asked.
        history, exclude: item ids as bytes.
        features: `{feature: value}`, as `inputs.read_features` gives them.
    """

    signature: str
    history: list[bytes] = dataclasses.field(default_factory=list, repr=False)
    exclude: list[bytes] = dataclasses.field(default_factory=list, repr=False)
    features: dict = dataclasses.field(default_factory=dict, repr=False)

    @property
    def width(self):
        """Columns that the user needs in the padded inputs; users of equal widths go together."""
        if self.signature == SERVING_DEFAULT:
            return 0, 0  # a record has no padding
        several = (len(value) for value in self.features.values() if isinstance(value, list))
        return max(len(self.history), *several, 0, 0), len(self.exclude)


def split(users, first=0):
    """Users as three lists: histories, items to exclude, and `{user feature: value}`.

    Args:
        users: mappings, any of `history`, `exclude` and user features.
        first: number of the first user in messages.

    Raises:
        InputError: a user that is no mapping, or ids that are not strings.
    """
    for row, user in enumerate(users, first):
        if not isinstance(user, collections.abc.Mapping):
            raise InputError(
                f"user {row} (a {type(user).__name__})",
                "a user is a mapping of history, exclude and user features",
                "Give one mapping a user.",
            )
    lists = {}
    for name in (HISTORY, EXCLUDE):
        values = [user.get(name) for user in users]
        values = [() if value is None else value for value in values]
        lists[name] = inputs.item_lists(values, name, first=first)
    features = [{name: user[name] for name in user if name not in lists} for user in users]
    return lists[HISTORY], lists[EXCLUDE], features


def need_features(histories, features):
    """Whether some of the users cannot be asked for without the model's user features."""
    pairs = zip(histories, features, strict=True)
    return any(given or not any(history) for history, given in pairs)


def read(histories, exclude, features, known, first=0):
    """What `split` returned, each user with the signature that fits what is known of it.

    `warm` answers who has a history only, `cold` who has user features or nothing, and the model
    itself decides in `serving_default` about who has both.

    Args:
        known: `{feature: kind}`, as `inputs.kinds` gives it.

    Raises:
        InputError: a feature that the model does not know, or a value of another kind.
    """
    found = []
    rows = zip(histories, exclude, inputs.read_features(features, known, first), strict=True)
    for history, hidden, values in rows:
        given = any(map(_is_given, values.values()))
        signature = (SERVING_DEFAULT if given else WARM) if any(history) else COLD
        found.append(User(signature, history, hidden, values if signature != WARM else {}))
    return found


def parts(users):
    """Cuts users into requests of at most ROWS, similar ones together so that padding is little.

    Returns:
        Pairs of a signature and the places of its users in `users`.
    """
    cut = []
    for signature in (WARM, COLD, SERVING_DEFAULT):
        places = [i for i, user in enumerate(users) if user.signature == signature]
        part = []
        for place in sorted(places, key=lambda i: users[i].width):
            widest = max(*users[place].width, 1)
            if len(part) == ROWS or (part and (len(part) + 1) * widest > _MOST_ELEMENTS):
                cut.append((signature, part))
                part = []
            part.append(place)
        if part:
            cut.append((signature, part))
    return cut


def signature_inputs(signature, users, known):
    """{input: array} of a signature for its users."""
    if signature == SERVING_DEFAULT:
        return {EXAMPLES: np.array([record(user, known) for user in users], object)}
    exclude = {EXCLUDE: inputs.rectangle([user.exclude for user in users])}
    if signature == WARM:
        return {HISTORY: inputs.rectangle([user.history for user in users]), **exclude}
    return {**inputs.feature_arrays([user.features for user in users], known), **exclude}


def record(user, known):
    """A serialized user record, with what is given only."""
    example = example_pb2.Example()
    fields = example.features.feature
    fields[HISTORY].bytes_list.value.extend(user.history)
    for name, value in user.features.items():
        if not _is_given(value):
            continue
        values = value if isinstance(value, list) else [value]
        is_text = known[name] in (CATEGORICAL, MULTI)
        kind = fields[name].bytes_list if is_text else fields[name].float_list
        kind.value.extend(values)
    return example.SerializeToString(deterministic=True)


def _is_given(value):
    values = value if isinstance(value, list) else [value]
    return any(not math.isnan(v) if isinstance(v, float) else bool(v) for v in values)
