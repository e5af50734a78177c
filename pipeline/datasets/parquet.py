"""Reads Parquet columns as the bytes that delimited text would hold."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import AnyPath

if TYPE_CHECKING:
    import pyarrow.parquet


def open_parquet(file: BinaryIO | AnyPath, path: AnyPath) -> "pyarrow.parquet.ParquetFile":
    """Opens a Parquet file.

    Args:
        file: an open file, or a local path.
        path: path of the file, for the error.

    Raises:
        InputError: the file is not Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise InputError(path, "it must be a Parquet file", "Correct the file.") from error


def rows(
    parquet: "pyarrow.parquet.ParquetFile",
    columns: Sequence[str],
    path: AnyPath,
    groups: Iterable[int] | None = None,
) -> Iterator[tuple[bytes, ...]]:
    """Yields rows as tuples of bytes, one for each of `columns`.

    A number becomes decimal text, a time stamp or a date an integer in its own unit, a list its
    values with "|" between them, and null or NaN an empty text.

    Args:
        parquet: file of `open_parquet`.
        columns: names of the columns to read.
        path: path of the file, for the error.
        groups: numbers of the row groups to read; all of them by default.

    Raises:
        InputError: a column that holds neither numbers nor text nor lists of them, or a damaged
            row group.
    """
    import pyarrow

    groups = range(parquet.num_row_groups) if groups is None else groups
    for group in groups:
        batches = parquet.iter_batches(row_groups=[group], columns=list(dict.fromkeys(columns)))
        try:
            for batch in batches:
                texts = [_texts(batch.column(name), name, path) for name in columns]
                yield from zip(*texts, strict=True)
        except (pyarrow.ArrowException, OSError) as error:
            start = parquet.metadata.row_group(group).column(0).data_page_offset
            raise InputError(
                path,
                f"its row group {group}, which begins at byte {start}, must be readable",
                "Write the file again.",
            ) from error


def _texts(array, name, path):
    import pyarrow

    try:
        array = _simple(array)
        if not pyarrow.types.is_binary(array.type):
            array = array.cast(pyarrow.large_string())
        # Binary columns, like delimited text, may hold bytes that are not UTF-8.
        values = array.cast(pyarrow.large_binary()).to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(
            f"column {name!r} of {path} with the type {array.type}",
            "it must hold numbers or text, or lists of them",
            "Correct the column in the dataset spec, or the file.",
        ) from error
    return [b"" if value is None else value for value in values]


def _simple(array):
    """Converts an array to one of text or plain numbers.

    Lists become text, and time stamps and dates integers. Floats lose NaN, and become integers if
    all of them are whole.
    """
    import pyarrow
    from pyarrow import compute, types

    if types.is_list(array.type) or types.is_large_list(array.type):
        return compute.binary_join(array.cast(pyarrow.list_(pyarrow.string())), "|")
    if types.is_timestamp(array.type):
        return array.cast(pyarrow.int64())
    if types.is_date(array.type):
        return array.cast(pyarrow.int32() if types.is_date32(array.type) else pyarrow.int64())
    if not types.is_floating(array.type):
        return array
    array = compute.if_else(compute.is_nan(array), pyarrow.scalar(None, array.type), array)
    try:
        # pandas turns integers with missing values into floats, and a large float as text would
        # have an exponent.
        return array.cast(pyarrow.int64())
    except pyarrow.ArrowInvalid:
        return array
