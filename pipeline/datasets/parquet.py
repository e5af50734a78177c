"""Opens Parquet files without running code from them, and reads rows as the bytes of text."""

import base64
import os
import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from cmclrec_tf.errors import InputError
from pipeline.datasets import parquet_values
from pipeline.storage.folders import AnyPath

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

MAGIC = b"PAR1"
"""The first four bytes of every Parquet file, and the last four."""
# Arrow stores its own schema under a key of the file's metadata. The other name has equal length.
_SCHEMA, _HIDDEN_SCHEMA = b"ARROW:schema", b"arrow:schema"
_EXTENSION, _HIDDEN_EXTENSION = b"ARROW:extension:name", b"arrow:extension:name"
# The extension type whose metadata is a pickle that pyarrow before 14.0.1 loads.
_PICKLED = "arrow.py_extension_type"
# Types that only say how to look at a plain list.
_PLAIN_EXTENSIONS = {"arrow.fixed_shape_tensor"}


class Column(NamedTuple):
    """A column to read.

    Attributes:
        name: its name in the file.
        unit: unit to which time stamps and dates are converted, one of `parquet_values.UNITS`; by
            default the column's own.
    """

    name: str
    unit: str = ""


def open_parquet(file: BinaryIO, path: AnyPath) -> "pyarrow.parquet.ParquetFile":
    """Opens a Parquet file; every file that this project reads is opened here.

    No code from the file runs. The types of the columns come from Parquet's own schema: the schema
    that Arrow adds, whose extension types can hold pickled code, is hidden from pyarrow.

    Args:
        file: an open file; it must stay open as long as the result is used.
        path: path of the file, for the error.

    Raises:
        InputError: the file is not Parquet, or a column has a type that holds pickled code.
    """
    import pyarrow
    import pyarrow.parquet

    # A second guard, and one that Beam brings: pyarrow refuses the type instead of loading it.
    import pyarrow_hotfix  # noqa: F401

    try:
        metadata = pyarrow.parquet.read_metadata(pyarrow.BufferReader(_footer(file, path)))
        for name, extension in _extensions(metadata):
            if extension == _PICKLED:
                raise InputError(
                    f"column {name!r} of {path} with the type {extension}",
                    "it must not hold pickled code, which would run as the file is opened",
                    "Write the column with a plain type, and only read files that you trust.",
                )
        # Time stamps of 96 bits would wrap around in nanoseconds, at dates such as 9999-12-31.
        return pyarrow.parquet.ParquetFile(
            file, metadata=metadata, coerce_int96_timestamp_unit="us"
        )
    except (pyarrow.ArrowException, OSError) as error:
        raise _not_parquet(path) from error


def column_types(
    parquet: "pyarrow.parquet.ParquetFile",
    columns: Mapping[str, str],
    lists: Container[str],
    path: AnyPath,
) -> "dict[str, pyarrow.DataType]":
    """Returns the types of columns that are read.

    Args:
        parquet: file of `open_parquet`.
        columns: `{name in the dataset spec: name in the file}`.
        lists: those of the dataset spec that may hold lists.
        path: path of the file, for the error.

    Returns:
        `{name in the dataset spec: type}`.

    Raises:
        InputError: a column whose values have no text, see `parquet_values.check`.
    """
    schema, extensions = parquet.schema_arrow, _extensions(parquet.metadata)
    types = {}
    for column, name in columns.items():
        types[column] = schema.field(name).type
        extension = next((extension for owner, extension in extensions if owner == name), "")
        parquet_values.check(
            types[column],
            "" if extension in _PLAIN_EXTENSIONS else extension,
            column in lists,
            f"column {name!r} of {path}",
        )
    return types


def rows(
    parquet: "pyarrow.parquet.ParquetFile",
    columns: Sequence[Column],
    path: AnyPath,
    groups: Iterable[int] | None = None,
) -> Iterator[tuple[parquet_values.Text, ...]]:
    """Yields rows as tuples of texts, one for each of `columns`, see `parquet_values.texts`.

    Args:
        parquet: file of `open_parquet`, whose columns `column_types` accepts.
        columns: the columns to read.
        path: path of the file, for the error.
        groups: numbers of the row groups to read; all of them by default.

    Raises:
        InputError: a damaged row group.
    """
    import pyarrow

    names = list(dict.fromkeys(column.name for column in columns))
    groups = range(parquet.num_row_groups) if groups is None else groups
    for group in groups:
        batches = parquet.iter_batches(row_groups=[group], columns=names)
        try:
            for batch in batches:
                texts = [
                    parquet_values.texts(batch.column(column.name), column.unit)
                    for column in columns
                ]
                yield from zip(*texts, strict=True)
        except (pyarrow.ArrowException, OSError) as error:
            start = parquet.metadata.row_group(group).column(0).data_page_offset
            raise InputError(
                path,
                f"its row group {group}, which begins at byte {start}, must be readable",
                "Write the file again.",
            ) from error


def _footer(file: BinaryIO, path: AnyPath) -> bytes:
    """Returns a Parquet file without rows that has the metadata of `file`.

    The bytes of a key stand in the metadata as they are, so a key that is replaced before pyarrow
    parses them cannot be found by it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    end = file.read(8)
    if len(end) < 8 or not end.endswith(MAGIC):
        raise _not_parquet(path)
    (length,) = struct.unpack("<I", end[:4])
    if length > size - 12:
        raise _not_parquet(path)
    file.seek(size - 8 - length)
    return MAGIC + file.read(length).replace(_SCHEMA, _HIDDEN_SCHEMA) + end


def _extensions(metadata: "pyarrow.parquet.FileMetaData") -> list[tuple[str, str]]:
    """Returns `(column, extension type)` of each extension type in a file, at any depth."""
    import pyarrow

    encoded = (metadata.metadata or {}).get(_HIDDEN_SCHEMA)
    if not encoded:
        return []
    try:
        # Without this name, pyarrow takes an extension type for the plain type that it extends.
        message = base64.b64decode(encoded).replace(_EXTENSION, _HIDDEN_EXTENSION)
        schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(message))
    except (ValueError, OSError, pyarrow.ArrowException):
        # The columns are read by Parquet's own schema, whatever this one is.
        return []
    return [(field.name, name) for field in schema for name in _extension_names(field)]


def _extension_names(field):
    """Yields the extension types of a field and of the fields inside of it."""
    name = (field.metadata or {}).get(_HIDDEN_EXTENSION)
    if name:
        yield name.decode("utf-8", "replace")
    for number in range(field.type.num_fields):
        yield from _extension_names(field.type.field(number))


def _not_parquet(path):
    return InputError(path, "it must be a Parquet file", "Correct the file.")
