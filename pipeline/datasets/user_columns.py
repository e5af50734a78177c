"""Defines how a dataset spec describes user features and the columns that they are read from."""

import dataclasses

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, CROSS, DATE, MULTI, Feature
from pipeline.datasets.parquet_values import UNITS
from pipeline.datasets.time_formats import ISO8601, NUMBER, check_time_format

# How many of each unit a day has: the units in which a number may count from 1970 to a date.
DATE_UNITS = {
    "days": UNITS["d"],
    "seconds": UNITS["s"],
    "milliseconds": UNITS["ms"],
    "microseconds": UNITS["us"],
    "nanoseconds": UNITS["ns"],
}


@dataclasses.dataclass(frozen=True)
class UserColumn:
    """A user feature and the column that it is read from.

    Attributes:
        name: see `cmclrec_tf.schema.Feature`.
        kind: see `cmclrec_tf.schema.Feature`.
        prefix: see `cmclrec_tf.schema.Feature`.
        column: name of the column; by default the name of the feature. A cross has none.
        separator: text between the values of a `multi` feature, and between the numbers of a
            vector.
        missing: texts that stand for a missing value, in addition to an empty field.
        most_values: number of values of a string feature that get an id of their own, the most
            frequent ones of the train users; the other values share one id. 0 means no limit.
        min_users: least number of train users with a value for which it gets an id of its own.
        numbers: see `cmclrec_tf.schema.Feature`.
        clip: see `cmclrec_tf.schema.Feature`.
        transform: see `cmclrec_tf.schema.Feature`.
        bins: see `cmclrec_tf.schema.Feature`.
        as_of: see `cmclrec_tf.schema.Feature`.
        of: see `cmclrec_tf.schema.Feature`.
        time_format: what a date is written as: `iso8601`, the default; one of `DATE_UNITS`, for
            numbers since 1970; or a pattern of `datetime.strptime`, as in `Interactions`. For text
            only: time stamps and dates of Parquet and BigQuery are read as such.

    Raises:
        InputError: an empty separator; most_values or min_users that is negative, or of a feature
            without strings; a time_format that is malformed, or of anything but a date; a cross
            with a column.
    """

    name: str
    kind: str = CATEGORICAL
    prefix: int = 0
    column: str = ""
    separator: str = "|"
    missing: tuple[str, ...] = ()
    most_values: int = 0
    min_users: int = 0
    numbers: int = 1
    clip: tuple[float, ...] = ()
    transform: str = ""
    bins: int = 0
    as_of: str = ""
    of: tuple[str, ...] = ()
    time_format: str = ""

    def __post_init__(self):
        if self.kind == CROSS and (self.column or self.missing):
            raise InputError(
                f"user feature {self.name!r} with column={self.column!r} and missing="
                f"{list(self.missing)}",
                "a cross is made of other features and read from no column",
                "Drop both from the dataset spec.",
            )
        if self.kind != CROSS:
            object.__setattr__(self, "column", self.column or self.name)
        if not self.separator:
            raise InputError(
                f"separator of user feature {self.name!r}",
                "it must not be empty",
                "Correct it in the dataset spec.",
            )
        for setting in ("most_values", "min_users"):
            value = getattr(self, setting)
            if value < 0 or (value and self.kind not in (CATEGORICAL, MULTI, CROSS)):
                raise InputError(
                    f"user feature {self.name!r} with {setting}={value}",
                    "it must be a positive number, of a feature with strings",
                    "Drop it from the dataset spec or make it positive.",
                )
        self._check_time_format()

    def _check_time_format(self):
        if self.kind != DATE and self.time_format:
            raise InputError(
                f"user feature {self.name!r} with time_format={self.time_format!r}",
                "only a date has one",
                "Drop it from the dataset spec, or make the feature a date.",
            )
        if self.time_format == NUMBER:
            raise InputError(
                f"user feature {self.name!r} with time_format={NUMBER!r}",
                f"the day of a number depends on its unit, which is one of {list(DATE_UNITS)}",
                "Name the unit in the dataset spec.",
            )
        if self.time_format not in DATE_UNITS:
            check_time_format(self.time_format)

    @property
    def is_split(self) -> bool:
        """Whether a text of the column holds several values."""
        return self.kind == MULTI or self.numbers > 1

    @property
    def date_format(self) -> str:
        """The format of a date."""
        return self.time_format or ISO8601

    @property
    def feature(self) -> Feature:
        """The user feature, without what is known only after training data are read."""
        shared = {field.name for field in dataclasses.fields(Feature)} & set(vars(self))
        return Feature(**{name: getattr(self, name) for name in shared})
