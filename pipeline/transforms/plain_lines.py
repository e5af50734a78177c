"""Parses many plain lines of text at once, column by column, with Arrow."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pipeline.datasets.delimited import has_quotes
from pipeline.datasets.text_rows import RowShape

if TYPE_CHECKING:
    import pyarrow as pa

_NEWLINE, _RETURN = b"\n\r"


def columns(
    block: bytes, shape: RowShape, positions: Mapping[str, int]
) -> "tuple[dict[str, pa.Array], np.ndarray] | None":
    """Parses whole lines into columns, if all of them are plain.

    Plain lines all have as many columns as the header, hold no quotes, and end in a newline or in a
    carriage return and a newline. The values equal those that `TextLayout.columns` reads row by
    row.

    Args:
        block: bytes of whole lines.
        shape: shape of the file's rows.
        positions: `{name: number of the column}`.

    Returns:
        `{name: Arrow array of stripped bytes}`, which need not be UTF-8, and the offsets in the
        block of the lines that are not blank, int64 [n]. None if a line is not plain.
    """
    import pyarrow as pa
    import pyarrow.csv

    delimiter, width = shape
    is_quoted = has_quotes(delimiter) and b'"' in block
    has_mark = block.startswith(b"\xef\xbb\xbf")
    has_lone_return = block.count(b"\r") != block.count(b"\r\n")
    if is_quoted or has_mark or has_lone_return or len(delimiter.encode()) != 1:
        return None
    names = {name: str(at) for name, at in positions.items()}
    convert = pa.csv.ConvertOptions(
        column_types={at: pa.binary() for at in names.values()},
        include_columns=sorted(set(names.values())),
    )
    read = pa.csv.ReadOptions(
        use_threads=False,
        block_size=len(block) + 1,
        # A line with more or fewer columns is an error of Arrow.
        column_names=[str(at) for at in range(width)],
    )
    parse = pa.csv.ParseOptions(delimiter=delimiter, quote_char=False)
    try:
        # `read_csv` would look through every object of the process as it returns.
        table = pa.csv.open_csv(pa.BufferReader(block), read, parse, convert).read_all()
    except pa.ArrowInvalid:
        return None
    offsets = _offsets(block)
    if len(offsets) != table.num_rows:
        return None
    return {name: _stripped(table[at]) for name, at in names.items()}, offsets


def digits(array: "pa.Array") -> np.ndarray | None:
    """Converts texts of decimal digits to int64 [n]; returns None if one is anything else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = np.asarray(pc.binary_length(array))
    if len(lengths) == 0:
        return np.zeros(0, np.int64)
    if lengths.min() < 1 or lengths.max() > 18:
        return None
    # Arrow stores the texts one after the other, so all bytes are checked at once.
    _, ends, texts = array.buffers()
    ends = np.frombuffer(ends, np.int32)[array.offset :][: len(array) + 1]
    values = np.frombuffer(texts, np.uint8)[ends[0] : ends[-1]]
    if values.min() < ord("0") or values.max() > ord("9"):
        return None
    return np.asarray(array.view(pa.string()).cast(pa.int64()))


def _stripped(column):
    import pyarrow as pa
    import pyarrow.compute as pc

    text = column.combine_chunks().view(pa.string())
    return pc.ascii_trim_whitespace(text).view(pa.binary())


def _offsets(block):
    """Returns the offsets in a block at which lines begin that are not blank."""
    raw = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(raw == _NEWLINE)
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(raw))
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts
    blank = (lengths == 0) | ((lengths == 1) & (raw[np.minimum(starts, len(raw) - 1)] == _RETURN))
    return starts[~blank]
