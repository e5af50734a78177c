"""Reads the dates of user features and writes them as user records hold them: `2024-04-30`."""

import dataclasses
import datetime
from collections.abc import Mapping

from cmclrec_tf.schema import DATE
from pipeline.datasets.parquet_values import UNITS
from pipeline.datasets.table_specs import Users
from pipeline.datasets.time_formats import NUMBER
from pipeline.datasets.user_columns import DATE_UNITS
from pipeline.transforms import times
from pipeline.transforms.row_values import MalformedError

_EPOCH = datetime.date(1970, 1, 1)


def with_units(table: Users, units: Mapping[str, str]) -> Users:
    """Returns the table with the units that files give their time stamps and dates.

    Args:
        table: the users' table of a dataset spec.
        units: `{column: one of parquet_values.UNITS, or ""}`.
    """
    names = dict(zip(UNITS, DATE_UNITS, strict=True))
    features = tuple(
        dataclasses.replace(column, time_format=names[units[column.column]])
        if column.kind == DATE and units.get(column.column)
        else column
        for column in table.features
    )
    return dataclasses.replace(table, features=features)


def date_text(text: bytes, column: str, date_format: str) -> bytes:
    """Returns a date in the form of ISO 8601, in UTC.

    Args:
        text: the date, stripped.
        column: name of its column, for the error.
        date_format: see `UserColumn.time_format`; one of `DATE_UNITS`, `iso8601` or a pattern.

    Raises:
        MalformedError: the text does not have the format, or the year has not four digits.
    """
    if date_format in DATE_UNITS:
        days = times.parse_text(text, column, NUMBER) // DATE_UNITS[date_format]
    else:
        days = times.parse_text(text, column, date_format) // DATE_UNITS["microseconds"]
    try:
        return (_EPOCH + datetime.timedelta(days)).isoformat().encode()
    except OverflowError as error:
        raise MalformedError(
            f"column {column!r} must hold dates of the years 1 to 9999",
            "If the column holds numbers, correct the unit in time_format.",
        ) from error
