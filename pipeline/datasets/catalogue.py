"""Reads the titles of items, for display."""

from collections.abc import Iterator

from pipeline.datasets import delimited, parquet
from pipeline.datasets.formats import inspect, is_parquet, open_table
from pipeline.datasets.spec import DatasetSpec
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
        for item, title in _pairs(
            file.path,
            table.delimiter,
            file.names,
            file.positions[table.id],
            file.positions[table.title],
        )
    }


def _pairs(
    path: str, delimiter: str, names: list[str], item: int, title: int
) -> Iterator[tuple[bytes, ...]]:
    """Yields (item id, title); `item` and `title` are the numbers of their columns."""
    with open_table(path) as file:
        if is_parquet(path):
            columns = names[item], names[title]
            yield from parquet.rows(parquet.open_parquet(file, path), columns, path)
            return
        file.readline()
        for line in file:
            row = delimited.fields(line.rstrip(b"\r\n"), delimiter)
            if len(row) > max(item, title):
                yield row[item], row[title]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
