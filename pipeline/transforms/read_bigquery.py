"""Rows of a BigQuery table, with a place of their own making: a table has no order."""

import datetime
import hashlib
import json
import math

import apache_beam as beam

from pipeline.transforms.row_values import MalformedError

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class ReadBigQuery(beam.PTransform):
    """Reads a table's rows as `((0, number), {column: value})`, by BigQuery's storage API.

    The number is a hash of the row, the same in every run: events of one time so have an order.

    Args:
        table: as in `project.dataset.table`.
        columns: names of the columns to read.
    """

    def __init__(self, table, columns):
        super().__init__()
        project, dataset, name = table.split(".")
        self._table = f"{project}:{dataset}.{name}"
        self._columns = list(columns)

    def expand(self, begin):
        from apache_beam.io.gcp.bigquery import ReadFromBigQuery

        return (
            begin
            | "Table"
            >> ReadFromBigQuery(
                table=self._table,
                method=ReadFromBigQuery.Method.DIRECT_READ,
                selected_fields=self._columns,
                use_native_datetime=True,
            )
            | "Place" >> beam.Map(placed)
        )


def placed(row):
    """A row behind its place."""
    text = json.dumps(row, sort_keys=True, default=str).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return (0, int.from_bytes(digest, "big") >> 1), row


def text(value, column):
    """A value as the bytes that delimited text would hold; a time stamp in microseconds.

    Raises:
        MalformedError: the column holds lists or records.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        return b"%d" % ((value - _EPOCH) // datetime.timedelta(microseconds=1))
    if isinstance(value, (list, dict)):
        raise MalformedError(f"column {column!r} must hold numbers, text or time stamps")
    return str(value).encode("utf-8", "surrogateescape")
