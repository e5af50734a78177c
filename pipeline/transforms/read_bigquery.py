"""Reads the rows of a BigQuery table; a table has no order, so a hash of each row makes one."""

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from cmclrec_tf.data import text_forms
from cmclrec_tf.errors import InputError
from pipeline.datasets.time_formats import ISO8601, NUMBER
from pipeline.transforms.elements import Place
from pipeline.transforms.row_values import MalformedError

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class ReadBigQuery(beam.PTransform):
    """Reads a table through BigQuery's storage API.

    Input: the beginning of a pipeline. Output elements: ((0, number), {column: value}). The number
    is a hash of the row and the same in every run, so events with equal times have an order.

    Args:
        table: `project.dataset.table`.
        columns: names of the columns to read.
    """

    def __init__(self, table: str, columns: Iterable[str]):
        super().__init__()
        project, dataset, name = table.split(".")
        self._table = f"{project}:{dataset}.{name}"
        self._columns = list(columns)

    @no_annotations
    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
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
            | "Place" >> beam.Map(with_place)
        )


@no_annotations
def with_place(row: Mapping[str, object]) -> tuple[Place, Mapping[str, object]]:
    """Returns a row with its place in front."""
    text = json.dumps(row, sort_keys=True, default=str).encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return (0, int.from_bytes(digest, "big") >> 1), row


def text(value: object, column: str, time_format: str = "") -> bytes:
    """Converts a value to the bytes that delimited text would hold.

    Args:
        value: a number or a text, which have the form of `text_forms`; a time stamp, which becomes
            microseconds; or a date or time of day, in the form of ISO 8601.
        column: name of its column, for the error.
        time_format: format of the times in the column, if it holds those of the log. With
            `iso8601`, a time stamp has that form too.

    Raises:
        MalformedError: the value is a list, a record, or a time stamp where the format is a
            pattern.
    """
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        if time_format == ISO8601:
            return value.isoformat().encode()
        if time_format not in ("", NUMBER):
            raise MalformedError(
                f"column {column!r} holds time stamps, which are read without a pattern",
                "Drop time_format from the dataset spec.",
            )
        return b"%d" % ((value - _EPOCH) // datetime.timedelta(microseconds=1))
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat().encode()
    try:
        return text_forms.to_bytes(value, f"column {column!r}")
    except InputError as error:
        rule = f"column {column!r} must hold numbers, text or time stamps"
        raise MalformedError(rule) from error
