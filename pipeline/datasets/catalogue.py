"""Titles of items, for display."""

import pathlib

from pipeline.datasets import delimited, parquet
from pipeline.datasets.formats import column_names, is_parquet, opened, positions


def titles(spec, folder):
    """Reads the items' table.

    Args:
        spec: the `DatasetSpec`.
        folder: of the raw files.

    Returns:
        `{item id: title}`, both str, with what is no UTF-8 as surrogates; empty when the dataset
        has no items' table.

    Raises:
        InputError: a column is missing.
    """
    table = spec.items
    if table is None:
        return {}
    path = pathlib.Path(folder) / table.file
    with opened(path) as file:
        return {_text(item): _text(title) for item, title in _pairs(file, table, path)}


def _pairs(file, table, path):
    where = positions(column_names(file, table.delimiter, path), (table.id, table.title), path)
    if is_parquet(path):
        yield from parquet.rows(parquet.open_parquet(file, path), (table.id, table.title), path)
        return
    for line in file:
        row = delimited.fields(line.rstrip(b"\r\n"), table.delimiter)
        if len(row) > max(where.values()):
            yield row[where[table.id]], row[where[table.title]]


def _text(value):
    return value.decode("utf-8", "surrogateescape")
