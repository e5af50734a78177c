"""Checks that the files of a dataset exist and fit its spec."""

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import RECORD_FIELDS
from pipeline.datasets.formats import inspect
from pipeline.datasets.spec import DatasetSpec
from pipeline.storage.files import list_files, open_bytes, state
from pipeline.storage.folders import AnyPath


def check(spec: DatasetSpec, folder: AnyPath, data: DataConfig | None = None) -> None:
    """Checks all files of a dataset, and the first rows, before anything runs.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.
        data: settings of the data, of which `split_time` is checked; None checks nothing.

    Raises:
        InputError: a missing or empty file, a file that is not of the format of its name, a missing
            column, malformed rows as in `first_rows.check`, a schema that does not fit user
            records, or a `split_time` that is not written as the times of the log.
    """
    # The parsers import this package.
    from pipeline.transforms import first_rows

    for table in (spec.interactions, spec.users, spec.items):
        if table is not None:
            inspect(table, folder)
    first_rows.check(spec, folder)
    if data:
        first_rows.split_time(spec, folder, data)
    schema_text(spec, folder)


def schema_text(spec: DatasetSpec, folder: AnyPath) -> str:
    """Reads the curated schema of a dataset.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.

    Returns:
        The text of the schema, or "" if the spec names none.

    Raises:
        InputError: a missing file, text that is no schema, or a schema with other fields than those
            of the user records.
    """
    if not spec.schema:
        return ""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    (path, *_) = list_files(folder, spec.schema)
    with open_bytes(path) as file:
        text = file.read().decode("utf-8", "replace")
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise InputError(
            path, f"it must be a schema of TensorFlow Metadata ({error})", "Correct the file."
        ) from error
    expected = {*RECORD_FIELDS, *(c.name for c in spec.users.columns)}
    actual = {feature.name for feature in schema.feature}
    if expected != actual:
        missing, extra = sorted(expected - actual), sorted(actual - expected)
        raise InputError(
            path,
            "a schema must have the fields of the user records; "
            f"{missing} are missing and {extra} too many",
            "Begin with the schema that SchemaGen infers.",
        )
    return text


def states(spec: DatasetSpec, folder: AnyPath) -> dict[str, list[int]]:
    """Returns the state of each file that user records are built from, see `files.state`.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.

    Returns:
        `{path: state}`, which is part of the cache key.

    Raises:
        InputError: a missing file.
    """
    tables = (spec.interactions, spec.users)
    return {path: state(path) for table in tables for path in list_files(folder, table.file)}
