"""Turns users into the arrays that the two towers read, in training and in evaluation."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.data import numeric
from cmclrec_tf.schema import FIRST_ID, MULTI, PAD, TRAIN, VAL, Feature, Schema
from experiments.two_tower.tower_config import TwoTowerConfig

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

# In standard deviations: a number farther from the mean, such as a typing error, is clipped.
_MOST_DEVIATION = 10.0


@dataclasses.dataclass(frozen=True)
class Slots:
    """User features as weighted rows of one embedding table.

    A category, or the bin of a number, has the weight 1, each of n categories 1 / n, and a number
    its distance from the mean in standard deviations. A missing value is a row of its own with the
    weight 1.

    Attributes:
        ids: rows of the table, int32 [B, S].
        weights: float32 [B, S]; 0 at padding.
        fields: number of the feature of each column, int32 [S].
    """

    ids: Ints
    weights: Floats
    fields: Ints


def table_size(schema: Schema) -> int:
    """Returns the number of rows of the embedding table of all user features."""
    return sum(map(_rows, schema.features))


def slots(features: dict[str, NDArray[Any]], schema: Schema) -> Slots:
    """Returns the user features of a batch as `Slots`.

    Args:
        features: {name: ids int [B, N], or floats [B, N] with NaN for a missing number}.
        schema: `Schema` with vocabulary sizes and statistics.
    """
    ids, weights, fields = [], [], []
    first = 0
    for number, feature in enumerate(schema.features):
        values = np.asarray(features[feature.name])
        of_feature = _numbers(values, feature) if feature.is_numeric else _values(values, feature)
        ids.append(of_feature[0] + first)
        weights.append(of_feature[1])
        fields += [number] * of_feature[0].shape[1]
        first += _rows(feature)
    return Slots(
        np.concatenate(ids, axis=1).astype(np.int32),
        np.concatenate(weights, axis=1).astype(np.float32),
        np.array(fields, np.int32),
    )


def read(
    dataset: "PreparedDataset", split: str, settings: TwoTowerConfig
) -> dict[str, NDArray[Any]]:
    """Reads a split into memory.

    Returns:
        `ids`, `weights` and `fields` of `Slots`; `events` int32 [n, L + 1], the history of each
        user, left-padded, and the last item.
    """
    features: dict[str, list[NDArray[Any]]] = {name.name: [] for name in dataset.schema.features}
    events = []
    dataset = dataset.with_history(settings.max_history)
    for batch in dataset.batches(split, 1024, shuffle=False).as_numpy_iterator():
        target = batch["target"]
        last = np.maximum((target != PAD).sum(axis=1) - 1, 0)
        last_item = np.take_along_axis(target, last[:, None], axis=1)
        events.append(np.concatenate([batch["history"], last_item], axis=1))
        for name, values in batch["features"].items():
            features[name].append(values)
    read_slots = slots({name: _stacked(parts) for name, parts in features.items()}, dataset.schema)
    return {**vars(read_slots), "events": np.concatenate(events).astype(np.int32)}


def pairs(events: Ints, which: str) -> Ints:
    """Returns the training pairs, int32 [P, 2]: row and position of an item in `events`.

    Args:
        events: int32 [n, L + 1], see `read`.
        which: `all` events, or the `last` one of each user.

    The position of an item is that of the query, too: its history are the items before it.
    """
    chosen = events >= FIRST_ID
    if which == "last":
        chosen[:, :-1] = False
    return np.argwhere(chosen).astype(np.int32)


def arrays(dataset: "PreparedDataset", settings: TwoTowerConfig) -> dict[str, NDArray[Any]]:
    """Returns everything that the training reads, with the splits as prefixes of the names."""
    values = {
        f"{split}_{name}": array
        for split in (TRAIN, VAL)
        for name, array in read(dataset, split, settings).items()
    }
    values["pairs"] = pairs(values[f"{TRAIN}_events"], settings.events)
    values["sizes"] = np.array(
        [table_size(dataset.schema), len(dataset.schema.features), dataset.schema.items]
    )
    return values


def _rows(feature: Feature) -> int:
    """One row for each value, or number; the first one stands for a missing value."""
    if feature.bins:
        return FIRST_ID + feature.bins
    return 1 + feature.numbers if feature.is_numeric else feature.size


def _values(ids: NDArray[Any], feature: Feature) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ids are rows already: PAD is the missing value."""
    if feature.kind != MULTI:
        return ids[:, :1], np.ones_like(ids[:, :1], np.float32)
    known = (ids != PAD).astype(np.float32)
    weights = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
    weights[:, 0] += known.sum(axis=1) == 0
    return ids, weights


def _numbers(values: NDArray[Any], feature: Feature) -> tuple[NDArray[Any], NDArray[Any]]:
    if feature.bins:
        return np.asarray(numeric.bin_ids(feature, values)), np.ones_like(values)
    known = np.isfinite(values).all(axis=1, keepdims=True)
    values = np.asarray(numeric.transformed(feature, np.where(known, values, 0.0)))
    values = np.clip((values - feature.mean) / feature.scale, -_MOST_DEVIATION, _MOST_DEVIATION)
    ids = np.broadcast_to(np.arange(1 + feature.numbers), (len(values), 1 + feature.numbers))
    return ids, np.concatenate([~known, np.where(known, values, 0.0)], axis=1)


def _stacked(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Stacks arrays [b, w] on top of each other; those of several categories differ in width."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in parts])
