"""Parses the rows of the two tables into events and user features, without Beam."""

from collections.abc import Callable
from typing import Any, Protocol

from cmclrec_tf.schema import DATE, MULTI
from pipeline.datasets.table_specs import Interactions, Keep, UserColumn, Users
from pipeline.transforms import counters, date_texts, row_values, times
from pipeline.transforms.elements import Place, Row, Values


class RowParser(Protocol):
    """The interface of the parsers below."""

    def parse(self, place: Place, row: Row) -> tuple[str, list[Any]]:
        """Parses a row.

        Args:
            place: place of the row.
            row: its columns, stripped.

        Returns:
            The counter that the row belongs to, or "", and the elements that it becomes.

        Raises:
            MalformedError: the row is malformed.
        """


class InteractionParser:
    """Parses rows of the log to (user id, (time, place, item id)).

    If the table has a `test_period`, an element is (user id, (time, place, item id), whether the
    event lies in that period).

    Attributes:
        table: the log of a dataset spec.
        is_event: the function that decides whether the columns of a row are an event.

    Args:
        table: the log of a dataset spec, with a `time_format`.

    Raises:
        InputError: the table's `missing_time` is no time of the format.
    """

    def __init__(self, table: Interactions):
        self.table = table
        self.is_event = _filter(table.keep) if table.keep else lambda row: True
        self._is_later = _filter(table.test_period) if table.test_period else None
        if table.missing_time:
            times.parse_setting(table.missing_time, table, "interactions.missing_time")

    def parse(self, place: Place, row: Row) -> tuple[str, list[Any]]:
        """Returns an event; a row without one gives no element."""
        table = self.table
        user, item = row_values.key(row, table.user), row_values.key(row, table.item)
        if not self.is_event(row):
            return counters.NOT_KEPT, []
        if table.drop_without_time and row_values.is_missing(row, table.time):
            return counters.WITHOUT_TIME, []
        time = times.parse(row[table.time], table)
        event = time, place, item
        side = () if self._is_later is None else (self._is_later(row),)
        return counters.EVENTS, [(user, event, *side)]


class UserParser:
    """Parses rows of the users' table to (user id, (place, {feature: values})).

    Args:
        table: the users' table of a dataset spec.
    """

    def __init__(self, table: Users):
        self._table = table
        self._missing = {
            column.name: {b"", *(value.encode() for value in column.missing)}
            for column in table.columns
        }

    def parse(self, place: Place, row: Row) -> tuple[str, list[Any]]:
        """Returns the user features of one user."""
        values = {column.name: self._values(row, column) for column in self._table.columns}
        return "", [(row_values.key(row, self._table.id), (place, values))]

    def _values(self, row: Row, column: UserColumn) -> Values:
        text, missing = row[column.column], self._missing[column.name]
        if text in missing:
            return []
        if column.kind == DATE:
            if row_values.is_missing(row, column.column):
                return []
            return [date_texts.date_text(text, column.column, column.date_format)]
        if column.feature.is_numeric:
            separator = column.separator.encode() if column.numbers > 1 else None
            return row_values.numbers(row, column.column, separator, column.numbers)
        parts = text.split(column.separator.encode()) if column.kind == MULTI else [text]
        values = (row_values.token(part.strip(), column.column) for part in parts)
        return [value for value in values if value not in missing]


def _filter(rule: Keep) -> Callable[[Row], bool]:
    """Returns the function that decides whether a rule selects a row."""
    column, least = rule.column, rule.at_least
    if least is None:
        values = {value.encode() for value in rule.one_of}
        return lambda row: row[column] in values

    def is_enough(row):
        number = row_values.number(row, column)
        return number is not None and number >= least

    return is_enough
