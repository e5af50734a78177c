"""Reads the titles of items, for display."""

from collections.abc import Iterator
from typing import cast

from pipeline.datasets import delimited, parquet
from pipeline.datasets.formats import TableFile, inspect, open_table
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.table_specs import Items
from pipeline.storage.folders import AnyPath


def titles(spec: DatasetSpec, folder: AnyPath) -> dict[str, str]:
    """Reads the items' table.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.

    Returns:
        `{item id: title}`; bytes that are not UTF-8 become surrogates. Empty if the dataset has no
        items' table.

    Raises:
        InputError: see `formats.inspect`.
    """
    table = spec.items
    if table is None:
        return {}
    return {
        _text(item): _text(title)
        for file in inspect(table, folder)
        for item, title in _pairs(file, table)
    }


def _pairs(file: TableFile, table: Items) -> Iterator[tuple[bytes, ...]]:
    """Yields (item id, title)."""
    columns = table.id, table.title
    with open_table(file.path) as stream:
        if file.is_parquet:
            opened = parquet.open_parquet(stream, file.path)
            texts = parquet.rows(opened, file.parquet_columns(columns), file.path)
            # An items' table holds no lists, see `formats.inspect`.
            for row in cast(Iterator[tuple[bytes, ...]], texts):
                yield tuple(text.strip() for text in row)
            return
        item, title = (file.positions[column] for column in columns)
        stream.readline()
        for line in stream:
            row = delimited.fields(line.rstrip(b"\r\n"), table.delimiter)
            if len(row) > max(item, title):
                yield row[item], row[title]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
