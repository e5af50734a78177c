"""Defines the dataset spec: which files a dataset has, and what their columns mean."""

import dataclasses
import importlib.resources
import pathlib
import re
from typing import Any

import yaml

from cmclrec_tf.config.checks import build
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature, Schema
from pipeline.datasets.table_specs import Interactions, Items, Source, Users, check_file
from pipeline.storage.folders import AnyPath


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A dataset of Parquet files, or of delimited text files with header lines.

    Attributes:
        name: name of the dataset; its folders have this name.
        interactions: the log of events.
        users: the users' table.
        items: the items' table, or None.
        source: the package that the files are downloaded with, or None if the user has to give
            them by `--data-dir`.
        max_rejects: number of malformed rows that do not stop a run. They are left out and stored
            separately, with the reason of each. With 0 the first one stops the run.
        schema: file with a curated schema of the user records, as text of TensorFlow Metadata. By
            default the schema is inferred from the train split.
        terms: terms of use of the dataset.
        origin: who publishes the files and which ones are expected, if there is no source.

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
                "it must be made of letters, digits, '.', '_' and '-'",
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
    def features(self) -> tuple[Feature, ...]:
        """The user features, in the order of the spec."""
        return tuple(column.feature for column in self.users.features)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files of the dataset, as written in the spec."""
        tables = (self.interactions, self.users, self.items)
        return tuple(dict.fromkeys(table.file for table in tables if table))

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as nested dicts."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> "DatasetSpec":
        """Builds a spec from nested dicts.

        Raises:
            InputError: an unknown or missing key, or a value of the wrong type.
        """
        return build(cls, values, "spec", "Correct it in the dataset spec.")


def load_spec(name_or_path: AnyPath) -> DatasetSpec:
    """Loads a dataset spec.

    Args:
        name_or_path: name of a dataset that comes with this package, or path of a YAML file.

    Raises:
        InputError: there is no such dataset and no such file, or the spec is malformed.
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
