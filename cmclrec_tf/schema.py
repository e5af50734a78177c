"""Names that all packages share: record fields, special ids, segments, splits, user features.

Dimension letters in shapes and comments:
B batch, L history length, M user features, D width, Z latent width, V items, K list length.
"""

import dataclasses
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

RESERVED = frozenset({USER_ID, HISTORY, HISTORY_TIME, TARGET, SEGMENT, EXCLUDE, EXAMPLES, ITEMS})

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

    Raises:
        InputError: a malformed or reserved name, an unknown kind, or a `prefix` or `numbers` that
            does not fit the kind.

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

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.name):
            raise InputError(
                f"user feature {self.name!r}",
                "a name is a letter followed by letters, digits or _",
                "Rename the column in the dataset spec.",
            )
        if self.name in RESERVED:
            raise InputError(
                f"user feature {self.name!r}",
                f"the names {sorted(RESERVED)} are taken by the user record",
                "Rename the column in the dataset spec.",
            )
        if self.kind not in KINDS:
            raise InputError(
                f"user feature {self.name!r} of kind {self.kind!r}",
                f"kinds are {list(KINDS)}",
                "Correct the kind in the dataset spec.",
            )
        if self.prefix < 0 or (self.prefix and self.kind == NUMERIC):
            raise InputError(
                f"user feature {self.name!r} with prefix {self.prefix}",
                "a prefix is a positive number of bytes of a string feature",
                "Drop it from the dataset spec or make it positive.",
            )
        if self.numbers < 1 or (self.numbers > 1 and self.kind != NUMERIC):
            raise InputError(
                f"user feature {self.name!r} with numbers={self.numbers}",
                "numbers is the length of a numeric feature's vector",
                "Drop it from the dataset spec, or make the feature numeric.",
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
        InputError: no features, or two features of one name.

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
        if len(set(names)) != len(names):
            raise InputError(f"user features {names}", "names are unique", "Drop the repeated one.")

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """Names of the vocabularies: that of the items, and one for each string feature."""
        return (ITEMS, *(f.name for f in self.features if not f.is_numeric))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as JSON holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Schema":
        """Builds a schema from the values of `to_dict`."""
        return cls(**{**values, "features": tuple(Feature(**f) for f in values["features"])})
