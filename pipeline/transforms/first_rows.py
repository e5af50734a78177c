"""Looks at the first rows of the tables: what their times are, and whether they are malformed.

Nothing here needs Beam, TFX or TensorFlow, so that a mistake in a spec costs seconds, not minutes.
"""

import collections
import dataclasses
import itertools
from typing import Any

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from pipeline.datasets.formats import inspect
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.table_specs import Interactions, Users
from pipeline.storage.folders import AnyPath
from pipeline.transforms import date_texts, times
from pipeline.transforms.elements import Place
from pipeline.transforms.layouts import Layout, layout_of
from pipeline.transforms.row_parsers import InteractionParser, RowParser, UserParser
from pipeline.transforms.row_values import MalformedError

MOST_ROWS = 1000


def check(spec: DatasetSpec, folder: AnyPath) -> None:
    """Parses the first `MOST_ROWS` rows of both tables, in the order of their files.

    A table in BigQuery is not read.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.

    Raises:
        InputError: all of them are malformed, or more than the spec allows; the error has the most
            frequent rule that they break and the number of one row. See also `formats.inspect`.
    """
    for table in (spec.interactions, spec.users):
        _check_table(table, folder, spec.max_rejects)


def split_time(spec: DatasetSpec, folder: AnyPath, data: DataConfig) -> int | None:
    """Returns T of `data.split: time` if `data.split_time` says what it is, or None.

    Args:
        spec: the dataset spec.
        folder: folder of the raw files.
        data: settings of the data.

    Raises:
        InputError: `data.split_time` is not written as the times of the log are.
    """
    if not data.split_time:
        return None
    log = spec.interactions
    (file, *_) = inspect(log, folder)
    table = _with_format(log, layout_of(log, folder))
    return times.parse_setting(
        data.split_time, table, "data.split_time", file.units.get(log.time, "")
    )


def parser_of(table: Interactions | Users, layout: Layout[Any]) -> RowParser:
    """Returns the parser of a table's rows.

    Args:
        table: a table of a dataset spec.
        layout: its layout. Its first rows decide the `time_format` of a log that has none.
    """
    if isinstance(table, Users):
        return UserParser(date_texts.with_units(table, getattr(layout, "units", {})))
    return InteractionParser(_with_format(table, layout))


def _with_format(table: Interactions, layout: Layout[Any]) -> Interactions:
    if table.time_format or table.time_decimals:
        return table
    # All of the first rows may lack a time.
    texts = [table.missing_time.encode(), *(row[table.time] for row in _first_columns(layout))]
    return dataclasses.replace(table, time_format=times.guess_format(texts))


def _check_table(table: Interactions | Users, folder: AnyPath, max_rejects: int) -> None:
    layout = layout_of(table, folder)
    parser = parser_of(table, layout)
    faults = collections.Counter[str]()
    examples: dict[str, tuple[Place, str]] = {}
    rows = 0
    for place, raw in itertools.islice(layout.first_rows(), MOST_ROWS):
        rows += 1
        try:
            parser.parse(place, layout.columns(place, raw))
        except MalformedError as error:
            faults[str(error)] += 1
            examples.setdefault(str(error), (place, error.fix))
    if not faults or max_rejects >= faults.total() < rows:
        return
    ((rule, _),) = faults.most_common(1)
    place, fix = examples[rule]
    first = "Correct the file or the dataset spec."
    if faults.total() < rows:
        first = f"Correct them, or raise max_rejects={max_rejects} in the dataset spec."
    share = f", {faults[rule]} of them by this rule" if len(faults) > 1 else ""
    raise InputError(
        layout.row(place),
        f"{rule} ({faults.total()} of the first {rows} rows are malformed{share})",
        f"{first} {fix}".strip(),
    )


def _first_columns(layout):
    """Yields the columns of the first rows that have some."""
    for place, raw in itertools.islice(layout.first_rows(), MOST_ROWS):
        try:
            yield layout.columns(place, raw)
        except MalformedError:
            continue
