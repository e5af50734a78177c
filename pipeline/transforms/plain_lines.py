"""Columns of many plain lines at once, by Arrow."""

import numpy as np

_NEWLINE, _RETURN = b"\n\r"


def columns(block, delimiter, positions):
    """Columns of whole lines, if the lines are plain.

    Plain lines all have as many columns, no quotes, and end in a newline or in a carriage return
    and a newline. What is found there is what `TextLayout.columns` finds line by line.

    Args:
        block: bytes of whole lines.
        delimiter: between columns.
        positions: {name: number of the column}.

    Returns:
        {name: Arrow array of stripped strings, which need not be UTF-8}, and the offsets in the
        block of the lines that are not blank, int64 [n]. None where a line is not plain.
    """
    import pyarrow as pa
    import pyarrow.csv

    quoted = delimiter == "," and b'"' in block
    marked = block.startswith(b"\xef\xbb\xbf")
    lone = block.count(b"\r") != block.count(b"\r\n")
    if quoted or marked or lone or len(delimiter.encode()) != 1:
        return None
    width = block.lstrip(b"\r\n").split(b"\n", 1)[0].count(delimiter.encode()) + 1
    if max(positions.values()) >= width:
        return None
    names = {name: str(at) for name, at in positions.items()}
    convert = pa.csv.ConvertOptions(
        column_types={at: pa.binary() for at in names.values()},
        include_columns=sorted(set(names.values())),
    )
    read = pa.csv.ReadOptions(
        use_threads=False,
        block_size=len(block) + 1,
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


def digits(array):
    """int64 [n] of an Arrow array of decimal digits; None where one of them is anything else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = np.asarray(pc.binary_length(array))
    if len(lengths) == 0:
        return np.zeros(0, np.int64)
    if lengths.min() < 1 or lengths.max() > 18:
        return None
    # The texts lie one behind the other.
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
    """Where the lines of a block begin that are not blank."""
    raw = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(raw == _NEWLINE)
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(raw))
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts
    blank = (lengths == 0) | ((lengths == 1) & (raw[np.minimum(starts, len(raw) - 1)] == _RETURN))
    return starts[~blank]
