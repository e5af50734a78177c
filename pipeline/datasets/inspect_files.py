"""Whether a dataset's files are there and have the columns that its spec names."""

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import HISTORY, HISTORY_TIME, SEGMENT, TARGET, USER_ID
from pipeline.datasets.formats import inspect
from pipeline.storage.files import listed, open_bytes, state


def check(spec, folder) -> None:
    """Looks at the columns of each file, so that a wrong file is known before anything runs.

    Args:
        spec: the `DatasetSpec`.
        folder: of the raw files.

    Raises:
        InputError: a missing or empty file, one of another format than its name says, a missing
            column, or a schema that is none of the user records.
    """
    for table in (spec.interactions, spec.users, spec.items):
        if table is not None:
            inspect(table, folder)
    schema_text(spec, folder)


def schema_text(spec, folder):
    """The text of the curated schema, or "" when the spec names none.

    Args, errors: as of `check`.
    """
    if not spec.schema:
        return ""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    (path, *_) = listed(folder, spec.schema)
    with open_bytes(path) as file:
        text = file.read().decode("utf-8", "replace")
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise InputError(
            path, f"it must be a schema of TensorFlow Metadata ({error})", "Correct the file."
        ) from error
    wanted = {USER_ID, SEGMENT, HISTORY, HISTORY_TIME, TARGET, *(f.name for f in spec.features)}
    found = {feature.name for feature in schema.feature}
    if wanted != found:
        lost, more = sorted(wanted - found), sorted(found - wanted)
        raise InputError(
            path,
            f"a schema has the fields of the user records; {lost} are missing and {more} too many",
            "Begin with the schema that SchemaGen infers.",
        )
    return text


def states(spec, folder):
    """`{file: state}` of the files that user records are made of, see `files.state`.

    Args, errors: as of `check`.
    """
    tables = (spec.interactions, spec.users)
    return {path: state(path) for table in tables for path in listed(folder, table.file)}
