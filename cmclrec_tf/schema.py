"""Names that all packages share: record fields, special ids, segments, splits, user features.

Dimension letters in shapes and comments:
B batch, L history length, M user features, D width, Z latent width, V items, K list length.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from cmclrec_tf.errors import InputError

# Ids. Items and category values count from FIRST_ID; histories are padded on the left.
PAD = 0
OOV = 1
FIRST_ID = 2

# Fields of a user record.
USER_ID = "user_id"
HISTORY = "history"
HISTORY_TIME = "history_time"
TARGET = "target"
SEGMENT = "segment"

# Inputs of the served signatures that are not user features.
EXCLUDE = "exclude"
EXAMPLES = "examples"

# Name of the item vocabulary; every categorical feature has a vocabulary of its own name.
ITEMS = "items"

# Names that no user feature can have, each with the reason. Upper and lower case count as the same:
# for TensorFlow, `Age` and `age` are one input of a signature, and for some disks one file.
RESERVED = {
    **dict.fromkeys(
        (USER_ID, HISTORY, HISTORY_TIME, TARGET, SEGMENT), "it is a field of the user record"
    ),
    **dict.fromkeys((EXCLUDE, EXAMPLES), "it is an input of the served signatures"),
    ITEMS: "it is the name of the item vocabulary",
    "self": "TensorFlow cannot call a signature with an input of that name",
}
# The name is also that of a vocabulary file, for which disks have 255 bytes.
LONGEST_NAME = 100
# No machine has the memory for longer vectors; TensorFlow counts bytes of strings in 32 bits.
_MOST_NUMBERS = 2**16

# Segments of users.
WARM = "warm"
COLD = "cold"
OVERALL = "overall"

TRAIN = "train"
VAL = "val"
TEST = "test"
SPLITS = (TRAIN, VAL, TEST)

# Kinds of user features.
CATEGORICAL = "categorical"
MULTI = "multi"
NUMERIC = "numeric"
KINDS = (CATEGORICAL, MULTI, NUMERIC)


@dataclasses.dataclass(frozen=True)
class Feature:
    """A user feature: a column of the users' table, and an input of the `cold` signature.

    Attributes:
        name: name of the record field and of the `cold` signature's input.
        kind: `categorical` (one string), `multi` (any number of strings) or `numeric` (one float,
            or a vector of floats).
        prefix: number of leading bytes of each string that are kept, for codes such as ZIP codes;
            0 keeps the whole string.
        size: number of ids, PAD and OOV included; 0 until the vocabulary of the train split exists.
        mean: mean of a numeric feature over the train split, all numbers of a vector together.
        scale: standard deviation of a numeric feature over the train split, likewise.
        numbers: length of a numeric feature's vector; a user has all numbers or none.
        clip: the lowest and the highest value of a numeric feature; numbers beyond count as these,
            in training and in serving. Empty: no bounds.

    Raises:
        InputError: a malformed or reserved name, an unknown kind, or a `prefix`, `numbers` or
            `clip` that does not fit the kind.

    Example:
        >>> import cmclrec_tf as cm
        >>> cm.Feature("age", kind="numeric").is_numeric
        True
        >>> cm.Feature("zip", prefix=3).kind
        'categorical'
    """

    name: str
    kind: str = CATEGORICAL
    prefix: int = 0
    size: int = 0
    mean: float = 0.0
    scale: float = 1.0
    numbers: int = 1
    clip: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # JSON has lists in place of tuples.
        object.__setattr__(self, "clip", tuple(self.clip))
        is_name = isinstance(self.name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.name)
        if not is_name or len(self.name) > LONGEST_NAME:
            raise InputError(
                f"user feature {self.name!r}",
                f"a name is a letter followed by letters, digits or _, at most {LONGEST_NAME}",
                "Rename the feature in the dataset spec; `column` names its column.",
            )
        if self.name.lower() in RESERVED:
            raise InputError(
                f"user feature {self.name!r}",
                f"the name is reserved: {RESERVED[self.name.lower()]}",
                "Rename the feature in the dataset spec; `column` names its column.",
            )
        if self.kind not in KINDS:
            raise InputError(
                f"user feature {self.name!r} of kind {self.kind!r}",
                f"kinds are {list(KINDS)}",
                "Correct the kind in the dataset spec.",
            )
        if not 0 <= self.prefix <= _MOST_NUMBERS or (self.prefix and self.kind == NUMERIC):
            raise InputError(
                f"user feature {self.name!r} with prefix {self.prefix}",
                f"a prefix is a number of bytes of a string feature, at most {_MOST_NUMBERS}",
                "Drop it from the dataset spec or make it positive.",
            )
        if not 1 <= self.numbers <= _MOST_NUMBERS or (self.numbers > 1 and self.kind != NUMERIC):
            raise InputError(
                f"user feature {self.name!r} with numbers={self.numbers}",
                f"numbers is the length of a numeric feature's vector, at most {_MOST_NUMBERS}",
                "Drop it from the dataset spec, or make the feature numeric.",
            )
        if self.clip and not (self.is_numeric and _are_bounds(self.clip)):
            raise InputError(
                f"user feature {self.name!r} with clip={list(self.clip)}",
                "clip is a lower and a higher number, the bounds of a numeric feature",
                "Drop it from the dataset spec, or correct it.",
            )

    @property
    def is_numeric(self) -> bool:
        """Whether the values are floats, not strings."""
        return self.kind == NUMERIC


@dataclasses.dataclass(frozen=True)
class Schema:
    """The user features and the number of items: what a model must know of a dataset.

    Attributes:
        features: the user features, in the order of the model's feature tokens.
        items: V, the number of item ids, PAD and OOV included; 0 until the vocabulary exists.
        digest: hash of all vocabularies, since vocabularies of equal size can differ.

    Raises:
        InputError: no features, or two features whose names differ in upper and lower case at most.

    Example:
        >>> import cmclrec_tf as cm
        >>> schema = cm.Schema((cm.Feature("age", "numeric"), cm.Feature("zip")), items=10)
        >>> schema.vocabularies
        ('items', 'zip')
        >>> cm.Schema.from_dict(schema.to_dict()) == schema
        True
    """

    features: tuple[Feature, ...]
    items: int = 0
    digest: str = ""

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if not names:
            raise InputError(
                "no user features",
                "a cold user needs at least one",
                "List one in the dataset spec.",
            )
        if len({name.lower() for name in names}) != len(names):
            raise InputError(
                f"user features {names}",
                "names are unique, where upper and lower case count as the same",
                "Drop or rename the repeated one.",
            )

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """Names of the vocabularies: that of the items, and one for each string feature."""
        return (ITEMS, *(f.name for f in self.features if not f.is_numeric))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as JSON holds them; a feature without bounds has no `clip`."""
        values = dataclasses.asdict(self)
        for feature in values["features"]:
            if clip := feature.pop("clip"):
                feature["clip"] = list(clip)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Schema":
        """Builds a schema from the values of `to_dict`."""
        return cls(**{**values, "features": tuple(Feature(**f) for f in values["features"])})


def _are_bounds(clip: tuple[float, ...]) -> bool:
    return len(clip) == 2 and all(map(math.isfinite, clip)) and clip[0] < clip[1]
