"""The dataset spec: which files a dataset has, and what their columns mean."""

import dataclasses
import importlib.resources
import pathlib
import re

import yaml

from cmclrec_tf.config.checks import build
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Schema
from pipeline.datasets.table_specs import Interactions, Items, Source, Users, check_file


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
            check_file(table)
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
        return build(cls, values, "spec", "Correct it in the dataset spec.")


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
