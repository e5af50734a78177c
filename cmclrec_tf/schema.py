"""Names that all packages share: record fields, special ids, segments, splits, user features.

Dimension letters in shapes and comments:
B batch, L history length, M user features, D width, Z latent width, V items, K list length.
"""

import dataclasses
import keyword
import re
from collections.abc import Mapping
from typing import Any

from cmclrec_tf.data import feature_rules
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
TARGET_TIME = "target_time"
SEGMENT = "segment"
RECORD_FIELDS = (USER_ID, HISTORY, HISTORY_TIME, TARGET, TARGET_TIME, SEGMENT)
# The fields with times, and the items that the times belong to.
TIMES = {HISTORY_TIME: HISTORY, TARGET_TIME: TARGET}

# Inputs of the served signatures that are not user features.
EXCLUDE = "exclude"
EXAMPLES = "examples"

# Name of the item vocabulary; every categorical feature has a vocabulary of its own name.
ITEMS = "items"

# Names that no user feature can have, besides keywords of Python, each with the reason. Upper and
# lower case count as the same: for TensorFlow, `Age` and `age` are one input of a signature, and
# for some disks one file.
RESERVED = {
    **dict.fromkeys(RECORD_FIELDS, "it is a field of the user record"),
    **dict.fromkeys((EXCLUDE, EXAMPLES), "it is an input of the served signatures"),
    ITEMS: "it is the name of the item vocabulary",
    "self": "TensorFlow cannot call a signature with an input of that name",
}
# The name is also that of a vocabulary file, for which disks have 255 bytes.
LONGEST_NAME = 100
# The settings of a user feature that come from a dataset spec.
_SETTINGS = ("name", "kind", "prefix", "numbers", "clip", "transform", "bins", "as_of", "of")
# Attributes that plain values leave out unless they are set: digests and cache keys of datasets
# that do not use them do not depend on them.
_OPTIONAL = ("clip", "transform", "bins", "as_of", "of", "quantiles")
_TUPLES = ("clip", "of", "quantiles")

# Segments of users.
WARM = "warm"
COLD = "cold"
OVERALL = "overall"

TRAIN = "train"
VAL = "val"
TEST = "test"
SPLITS = (TRAIN, VAL, TEST)

# Kinds of user features, and the transforms of their numbers.
CATEGORICAL, MULTI, NUMERIC, DATE, CROSS = feature_rules.KINDS
LOG, QUANTILE, CLIP = feature_rules.TRANSFORMS


@dataclasses.dataclass(frozen=True)
class Feature:
    """A user feature: a column of the users' table, and an input of the `cold` signature.

    Attributes:
        name: name of the record field and of the `cold` signature's input.
        kind: `categorical` (one string), `multi` (any number of strings), `numeric` (one float, or
            a vector of floats), `date` (one date as text, `2024-04-30`, which the model reads as
            years before `as_of`) or `cross` (the strings of several categorical features together
            as one category, which neither records nor requests hold).
        prefix: number of leading bytes of each string that are kept, for codes such as ZIP codes;
            0 keeps the whole string.
        size: number of ids, PAD and OOV included; 0 until the vocabulary of the train split exists.
        mean: mean of a numeric feature over the train split, all numbers of a vector together.
        scale: standard deviation of a numeric feature over the train split, likewise.
        numbers: length of a numeric feature's vector; a user has all numbers or none.
        clip: the lowest and the highest value of a numeric feature, or of an age in years; numbers
            beyond count as these, in training and in serving. Empty: no bounds.
        transform: what the model reads in place of the number: `log`, `quantile` (its rank among
            the train users) or `clip` (bounds are the 1 % and 99 % quantiles of the train users).
        bins: number of ranges, equally frequent among the train users, that numbers are turned
            into; each range has a trained vector, as a category has. 0: numbers remain numbers.
        as_of: the day on which ages of a `date` are computed, in training and in serving.
        of: names of the features that a `cross` is made of.
        quantiles: those of the train split that `transform` or `bins` needs.

    Raises:
        InputError: a malformed or reserved name, an unknown kind or transform, or a setting that
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
    clip: tuple[float, ...] = ()
    transform: str = ""
    bins: int = 0
    as_of: str = ""
    of: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in _TUPLES:  # JSON has lists in place of tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
        is_name = isinstance(self.name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.name)
        if not is_name or len(self.name) > LONGEST_NAME:
            raise InputError(
                f"user feature {self.name!r}",
                f"a name is a letter followed by letters, digits or _, at most {LONGEST_NAME}",
                "Rename the feature in the dataset spec; `column` names its column.",
            )
        reason = RESERVED.get(self.name.lower())
        if keyword.iskeyword(self.name):
            reason = "TensorFlow cannot export an input that has the name of a keyword of Python"
        if reason:
            raise InputError(
                f"user feature {self.name!r}",
                f"the name is reserved: {reason}",
                "Rename the feature in the dataset spec; `column` names its column.",
            )
        feature_rules.check(self)

    @property
    def is_numeric(self) -> bool:
        """Whether the model reads floats, not ids."""
        return self.kind in (NUMERIC, DATE)

    @property
    def is_text(self) -> bool:
        """Whether user records and requests hold strings, not floats."""
        return self.kind != NUMERIC

    @property
    def served_kind(self) -> str:
        """The kind of feature that the `cold` signature has: for it, a date is one string."""
        return CATEGORICAL if self.kind == DATE else self.kind

    @property
    def settings(self) -> dict[str, Any]:
        """What a dataset spec says, as JSON holds it; all other attributes are computed."""
        values = self.to_dict()
        return {key: values[key] for key in _SETTINGS if key in values}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as JSON holds them; those of `_OPTIONAL` only if they are set."""
        values = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
        return {key: value for key, value in values.items() if value or key not in _OPTIONAL}


@dataclasses.dataclass(frozen=True)
class Schema:
    """The user features and the number of items: what a model must know of a dataset.

    Attributes:
        features: the user features, in the order of the model's feature tokens.
        items: V, the number of item ids, PAD and OOV included; 0 until the vocabulary exists.
        digest: hash of all vocabularies, since vocabularies of equal size can differ.

    Raises:
        InputError: no features, or only crosses; two features whose names differ in upper and lower
            case at most; a cross of anything but categorical features.

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
        if not self.inputs:
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
        categorical = [feature.name for feature in self.features if feature.kind == CATEGORICAL]
        for feature in self.features:
            if not set(feature.of) <= set(categorical):
                raise InputError(
                    f"user feature {feature.name!r} of {list(feature.of)}",
                    f"a cross is made of categorical features, which are {categorical}",
                    "Correct it in the dataset spec.",
                )

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """The features that user records and requests hold: all but the crosses."""
        return tuple(feature for feature in self.features if feature.kind != CROSS)

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """Names of the vocabularies: that of the items, and one for each feature with ids."""
        return (ITEMS, *(f.name for f in self.features if not f.is_numeric))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as JSON holds them."""
        features = [feature.to_dict() for feature in self.features]
        return {**dataclasses.asdict(self), "features": features}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Schema":
        """Builds a schema from the values of `to_dict`."""
        return cls(**{**values, "features": tuple(Feature(**f) for f in values["features"])})
