"""Turns the numbers of a user feature into what a model reads: an age, a rank, a range.

A model does this itself, with constants of its schema, so batches, records and requests hold the
same raw numbers, and training, evaluation and serving cannot differ.

1. `kind: date`: the number counts days; it becomes the years from that day to `as_of`.
2. `clip`: a number beyond a bound becomes the bound.
3. One of these:
   - `transform: clip`: the same, with the 1 % and 99 % quantiles of the train users as bounds;
   - `transform: log`: sign(x) log(1 + abs(x)), which negative numbers have too;
   - `transform: quantile`: the share of the train users with a smaller number, from 0 to 1, where
     users with an equal number count half;
   - `bins`: the range that holds the number, as an id.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops
from numpy.typing import NDArray

from cmclrec_tf.data import dates
from cmclrec_tf.schema import CLIP, DATE, FIRST_ID, LOG, PAD, QUANTILE, Feature
from cmclrec_tf.types import Tensor

DAYS_OF_YEAR = 365.2425
# Shares of the train users below the quantiles of `transform: quantile` and `transform: clip`.
_RANKS = tuple(np.linspace(0.0, 1.0, 101).tolist())
_TAILS = (0.01, 0.99)


def transformed(feature: Feature, values: Tensor) -> Tensor:
    """Applies the settings of a feature but for `bins`.

    Args:
        feature: a numeric feature, with its quantiles.
        values: raw floats of any shape. NaN and infinity, which count as missing, stay.
    """
    known = ops.isfinite(values)
    numbers = bounded(feature, ops.where(known, values, 0.0))
    if feature.transform == LOG:
        numbers = ops.sign(numbers) * ops.log1p(ops.abs(numbers))
    elif feature.transform == CLIP and feature.quantiles:
        numbers = ops.clip(numbers, *feature.quantiles)
    elif feature.transform == QUANTILE and feature.quantiles:
        numbers = _ranks(feature.quantiles, numbers)
    return ops.where(known, numbers, values)


def bounded(feature: Feature, values: Tensor) -> Tensor:
    """Applies the settings that need no statistics: turns days into years, and clips to `clip`.

    Args:
        feature: a numeric feature.
        values: finite floats of any shape.
    """
    if feature.kind == DATE:
        values = (float(dates.days_of(feature.as_of) or 0) - values) / DAYS_OF_YEAR
    return ops.clip(values, *feature.clip) if feature.clip else values


def bin_ids(feature: Feature, values: Tensor) -> Tensor:
    """Returns the ids of the bins that numbers lie in, from FIRST_ID on; PAD for a missing number.

    Args:
        feature: a numeric feature with `bins`.
        values: raw floats of any shape. NaN and infinity count as missing.
    """
    known = ops.isfinite(values)
    values = bounded(feature, ops.where(known, values, 0.0))
    lower = ops.convert_to_tensor(np.array(feature.quantiles, np.float32))
    ids = ops.sum(ops.cast(values[..., None] >= lower, "int32"), axis=-1) + FIRST_ID
    return ops.where(known, ids, PAD)


def as_read(feature: Feature, values: Tensor) -> Tensor:
    """Returns floats that are equal where two values are one for a model.

    Args:
        feature: a numeric feature.
        values: raw floats of any shape, where NaN is missing.
    """
    if not feature.bins:
        return transformed(feature, values)
    ids = bin_ids(feature, values)
    return ops.where(ids == PAD, values, ops.cast(ids, "float32"))


def needs_quantiles(feature: Feature) -> bool:
    """Whether the settings of a feature need quantiles of the train split."""
    return bool(feature.bins) or feature.transform in (QUANTILE, CLIP)


def quantiles(feature: Feature, numbers: NDArray[np.float32]) -> tuple[float, ...]:
    """Returns the quantiles that a feature needs.

    Args:
        feature: a feature that `needs_quantiles`.
        numbers: [n], the `bounded` numbers of the train users; without any there are no quantiles.

    Returns:
        The lower bounds of all `bins` but the first. A number that many users have fills several
        bins, which then are one. For a `transform` the quantiles, smallest first.
    """
    if not numbers.size:
        return ()
    if not feature.bins:
        return _quantiles(numbers, _RANKS if feature.transform == QUANTILE else _TAILS)
    lower = _quantiles(numbers, [number / feature.bins for number in range(1, feature.bins)])
    return tuple(sorted({bound for bound in lower if bound > numbers.min()}))


def _quantiles(numbers: NDArray[np.float32], shares: Sequence[float]) -> tuple[float, ...]:
    return tuple(np.quantile(numbers, shares).astype(np.float32).tolist())


def _ranks(quantiles: tuple[float, ...], values: Tensor) -> Tensor:
    """Interpolates between quantiles; a number that fills several of them has their mean rank."""
    knots, first, count = np.unique(
        np.array(quantiles, np.float32), return_index=True, return_counts=True
    )
    ranks = np.array(_RANKS, np.float32)
    low, high = ranks[first], ranks[first + count - 1]
    values = values[..., None]
    # Sums over the knots, of the step at each, and over the intervals, of the share below a value.
    steps = (ops.sign(values - knots) + 1) / 2
    shares = ops.clip((values - knots[:-1]) / np.diff(knots), 0.0, 1.0)
    return ops.sum(steps * (high - low), axis=-1) + ops.sum(shares * (low[1:] - high[:-1]), axis=-1)
