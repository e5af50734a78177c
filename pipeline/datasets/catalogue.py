"""Reads the titles of items, for display."""

import math
from collections.abc import Iterator
from typing import cast

from pipeline.datasets import delimited, parquet, text_rows
from pipeline.datasets.formats import TableFile, inspect
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.table_specs import Items
from pipeline.datasets.text_rows import RowShape
from pipeline.storage.files import open_bytes
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
    """Yields (item id, title); malformed rows of text have none."""
    columns = table.id, table.title
    if file.is_parquet:
        with open_bytes(file.path) as stream:
            opened = parquet.open_parquet(stream, file.path)
            texts = parquet.rows(opened, file.parquet_columns(columns), file.path)
            # An items' table holds no lists, see `formats.inspect`.
            for row in cast(Iterator[tuple[bytes, ...]], texts):
                yield tuple(text.strip() for text in row)
        return
    shape = RowShape(table.delimiter, len(file.names))
    for first, block in text_rows.blocks(file.path, 0, math.inf, shape):
        for _, line in text_rows.rows(first, block, shape):
            try:
                values = delimited.fields(line, table.delimiter)
            except delimited.FormatError:
                continue
            if len(values) == shape.width:
                yield tuple(values[file.positions[column]].strip() for column in columns)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
