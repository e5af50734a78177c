"""The one vocabulary of the data: field names, ids, segments, splits and user features.

Dimension letters used in shapes and comments everywhere:
B batch, L history length, M user-feature fields, D width, Z latent width, V items, K list length.
"""

import dataclasses
import re

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

# The item vocabulary's name, beside one vocabulary per categorical feature.
ITEMS = "items"

RESERVED = frozenset({USER_ID, HISTORY, HISTORY_TIME, TARGET, SEGMENT, EXCLUDE, EXAMPLES, ITEMS})

WARM = "warm"
COLD = "cold"
OVERALL = "overall"

TRAIN = "train"
VAL = "val"
TEST = "test"
SPLITS = (TRAIN, VAL, TEST)

CATEGORICAL = "categorical"
MULTI = "multi"
NUMERIC = "numeric"
KINDS = (CATEGORICAL, MULTI, NUMERIC)


@dataclasses.dataclass(frozen=True)
class Feature:
    """One user feature.

    Attributes:
        name: field name in the record and input name in the `cold` signature.
        kind: `categorical` (one string), `multi` (any number of strings) or `numeric` (one float,
            or a vector of them).
        prefix: keep only this many leading bytes of each string; 0 keeps all.
        size: number of ids, PAD and OOV included; 0 until the train split's vocabulary is known.
        mean, scale: location and spread of a numeric feature over the train split; a vector has one
            of both for all its numbers.
        numbers: how many a numeric feature has; a user has all of them or none.

    Raises:
        InputError: a reserved or malformed name, an unknown kind, a negative prefix, numbers that
            are none or of strings.
    """

    name: str
    kind: str = CATEGORICAL
    prefix: int = 0
    size: int = 0
    mean: float = 0.0
    scale: float = 1.0
    numbers: int = 1

    def __post_init__(self):
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
                "it is the length of a vector of numbers",
                "Drop it from the dataset spec, or make the feature numeric.",
            )

    @property
    def is_numeric(self):
        return self.kind == NUMERIC


@dataclasses.dataclass(frozen=True)
class Schema:
    """What is known of users, and how many items there are.

    Attributes:
        features: the user features, in the order of their tokens.
        items: number of item ids, PAD and OOV included; 0 until the vocabulary is known.
        digest: of all vocabularies together: equal sizes do not make equal ids.
    """

    features: tuple[Feature, ...]
    items: int = 0
    digest: str = ""

    def __post_init__(self):
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
    def vocabularies(self):
        """Names of the vocabularies: the items' and one for each string feature."""
        return (ITEMS, *(f.name for f in self.features if not f.is_numeric))

    def to_dict(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        return cls(**{**values, "features": tuple(Feature(**f) for f in values["features"])})
