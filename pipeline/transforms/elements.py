"""Names the types of the elements that the Beam transforms pass on."""

from typing import Any, TypeAlias

Place: TypeAlias = tuple[int, int]
"""Where a row is: the number of its file, and a number that orders the rows of that file."""

Row: TypeAlias = dict[str, bytes]
"""The columns of a row that are read, by name."""

Event: TypeAlias = tuple[int, Place, bytes]
"""(time, place, item id): sorts by age; events with equal times keep the order of the files."""

TimedItem: TypeAlias = tuple[int, bytes]
"""(time, item id)"""

NewestOfPart: TypeAlias = tuple[int, list[Event]]
"""(number of events, the newest of them) of a part of a user's events."""

Values: TypeAlias = list[Any]
"""Values of one field, empty when missing. The field decides whether they are bytes, int or float,
and the fields are known only once a dataset spec is read."""

FeatureValues: TypeAlias = dict[str, Values]
"""User features by name."""

UserRecord: TypeAlias = dict[str, Values]
"""The fields of a user record by name."""
