"""Parquet: columns as the bytes that delimited text would hold."""

from cmclrec_tf.errors import InputError


def open_parquet(file, path):
    """`pyarrow.parquet.ParquetFile` of an open file.

    Raises:
        InputError: the file is no Parquet.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise InputError(path, "it must be a Parquet file", "Correct the file.") from error


def rows(parquet, columns, path, groups=None):
    """Rows of some row groups as tuples of bytes, one for each of `columns`.

    A list is written out with "|" between its values, a number in decimal, a time stamp or a date
    as an integer in its own unit. What is null, or NaN, is b"".

    Args:
        parquet: of `open_parquet`.
        columns: names.
        path: of the file, for the error.
        groups: numbers of the row groups; all by default.

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
                "Write the file anew.",
            ) from error


def _texts(array, name, path):
    import pyarrow

    try:
        array = _plain(array)
        if not pyarrow.types.is_binary(array.type):
            array = array.cast(pyarrow.large_string())
        # Binary may hold what is no UTF-8, which delimited text may too.
        values = array.cast(pyarrow.large_binary()).to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(
            f"column {name!r} of {path} with the type {array.type}",
            "it must hold numbers or text, or lists of them",
            "Correct the column in the dataset spec, or the file.",
        ) from error
    return [b"" if value is None else value for value in values]


def _plain(array):
    """Time stamps as integers; floats without NaN, and as integers where all are whole."""
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
        # pandas makes floats of integers with holes; as text, large ones would get an exponent.
        return array.cast(pyarrow.int64())
    except pyarrow.ArrowInvalid:
        return array
