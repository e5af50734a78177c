"""Titles of items, for display."""

from pipeline.datasets import delimited, parquet
from pipeline.datasets.formats import inspect, is_parquet, opened


def titles(spec, folder):
    """Reads the items' table.

    Args:
        spec: the `DatasetSpec`.
        folder: of the raw files.

    Returns:
        `{item id: title}`, both str, with what is no UTF-8 as surrogates; empty when the dataset
        has no items' table.

    Raises:
        InputError: as of `formats.inspect`.
    """
    table = spec.items
    if table is None:
        return {}
    return {
        _text(item): _text(title)
        for path, names, where in inspect(table, folder)
        for item, title in _pairs(path, table.delimiter, names, where[table.id], where[table.title])
    }


def _pairs(path, delimiter, names, item, title):
    with opened(path) as file:
        if is_parquet(path):
            columns = names[item], names[title]
            yield from parquet.rows(parquet.open_parquet(file, path), columns, path)
            return
        file.readline()
        for line in file:
            row = delimited.fields(line.rstrip(b"\r\n"), delimiter)
            if len(row) > max(item, title):
                yield row[item], row[title]


def _text(value):
    return value.decode("utf-8", "surrogateescape")
