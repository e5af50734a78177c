"""Titles of items, for display."""

import pathlib

from pipeline.datasets.delimited import columns_of, fields, positions


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
    found = {}
    with open(path, "rb") as file:
        where = positions(file.readline(), table.delimiter, columns_of(table), path)
        for line in file:
            row = fields(line.rstrip(b"\r\n"), table.delimiter)
            if len(row) > max(where.values()):
                item, title = (row[where[column]] for column in (table.id, table.title))
                found[_text(item)] = _text(title)
    return found


def _text(value):
    return value.decode("utf-8", "surrogateescape")
