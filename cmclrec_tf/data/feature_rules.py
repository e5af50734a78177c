"""The kinds and transforms of user features, and which settings fit which kind."""

import datetime
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cmclrec_tf.errors import InputError

if TYPE_CHECKING:
    from cmclrec_tf.schema import Feature

CATEGORICAL = "categorical"
MULTI = "multi"
NUMERIC = "numeric"
DATE = "date"
CROSS = "cross"
KINDS = (CATEGORICAL, MULTI, NUMERIC, DATE, CROSS)

# Transforms of numbers, see `cmclrec_tf.data.numeric`.
LOG = "log"
QUANTILE = "quantile"
CLIP = "clip"
TRANSFORMS = (LOG, QUANTILE, CLIP)

# No machine has the memory for longer vectors; TensorFlow counts bytes of strings in 32 bits.
_MOST_NUMBERS = 2**16
# Each bin has a vector of its own, which users must train.
_MOST_BINS = 1000


def check(feature: "Feature") -> None:
    """Checks that the settings of a user feature fit its kind.

    Raises:
        InputError: an unknown kind, or a setting that does not fit; names the first one.
    """
    if feature.kind not in KINDS:
        raise InputError(
            f"user feature {feature.name!r} of kind {feature.kind!r}",
            f"kinds are {list(KINDS)}",
            "Correct the kind in the dataset spec.",
        )
    for setting, fits, rule in _rules(feature):
        if not fits:
            value = getattr(feature, setting)
            value = list(value) if isinstance(value, tuple) else value
            raise InputError(
                f"user feature {feature.name!r} of kind {feature.kind} with {setting}={value!r}",
                rule,
                "Correct it in the dataset spec, or drop it.",
            )


def _rules(feature: "Feature") -> Iterator[tuple[str, bool, str]]:
    """Yields (setting, whether its value fits, the rule)."""
    kind, numbers, bins = feature.kind, feature.numbers, feature.bins
    yield (
        "prefix",
        not feature.prefix
        or (0 < feature.prefix <= _MOST_NUMBERS and kind in (CATEGORICAL, MULTI)),
        f"a prefix is a number of bytes of a string feature, at most {_MOST_NUMBERS}",
    )
    yield (
        "numbers",
        numbers == 1 or (1 < numbers <= _MOST_NUMBERS and kind == NUMERIC),
        f"numbers is the length of a numeric feature's vector, at most {_MOST_NUMBERS}",
    )
    yield (
        "clip",
        not feature.clip or (feature.is_numeric and _are_bounds(feature.clip)),
        "clip is a lower and a higher number, the bounds of a numeric feature or of an age",
    )
    yield (
        "transform",
        not feature.transform or (feature.is_numeric and feature.transform in TRANSFORMS),
        f"a numeric feature or a date may have one of the transforms {list(TRANSFORMS)}",
    )
    yield (
        "bins",
        not bins or (feature.is_numeric and numbers == 1 and 2 <= bins <= _MOST_BINS),
        f"a single number or a date may have 2 to {_MOST_BINS} bins",
    )
    yield (
        "transform",
        not (bins and feature.transform),
        "bins lie between quantiles, so a transform before them would change nothing",
    )
    yield (
        "as_of",
        _is_day(feature.as_of) if kind == DATE else not feature.as_of,
        "a date, and nothing else, needs the day on which ages are computed, such as 2024-04-30; "
        "it is the same in training and in serving",
    )
    yield (
        "of",
        len(feature.of) == len(set(feature.of)) >= 2 if kind == CROSS else not feature.of,
        "a cross, and nothing else, needs the names of two or more categorical features",
    )


def _are_bounds(clip: tuple[float, ...]) -> bool:
    return len(clip) == 2 and all(map(math.isfinite, clip)) and clip[0] < clip[1]


def _is_day(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text))
    except (TypeError, ValueError):
        return False
