"""Defines the rows whose settings are no `Config`: floors, and the two towers of a peer."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from cmclrec_tf.config import Config, checks
from experiments.two_tower.tower_config import TwoTowerConfig

if TYPE_CHECKING:
    from cmclrec_tf.baselines.feature_mlp import FeatureMLP, FeatureMLPConfig
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.types import ItemRecommender
    from experiments.two_tower.two_tower import TwoTower

Changes: TypeAlias = Mapping[str, Any]
"""{field of the settings of a model: value that replaces the default}."""

_MLP, _KNN, _TOWERS = "features-mlp", "features-knn", "two-tower"
# Floors: simple recommenders that every model must beat. `-last` learns or counts last items only,
# `-decayed` all of them, the newer the more.
_MLPS = (_MLP, f"{_MLP}-last", f"{_MLP}-decayed")
TABLE_FLOORS = ("random", "popularity", "popularity-last", *_MLPS)
# The nearest neighbours are rows of `table1` only.
FLOORS = (*TABLE_FLOORS, _KNN, f"{_KNN}-last")
# The newest events of all users: a floor where the time divides train from test.
RECENT = "popularity-recent"
# What a user of TensorFlow Recommenders would take.
PEERS = (_TOWERS, f"{_TOWERS}-last")


def settings(name: str, config: Config, changes: Changes) -> dict[str, Any]:
    """Returns the settings of a row's model as plain values; empty if it has none.

    Args:
        name: one of FLOORS or PEERS, or RECENT.
        config: `Config`, of which `data`, `seed` and `evaluate.seen_items` are read.
        changes: changed settings.

    Raises:
        InputError: there is no such setting, or its value is out of bounds.
    """
    if name.startswith(_MLP):
        return dataclasses.asdict(_mlp(name, config, changes))
    return dataclasses.asdict(_towers(name, config, changes)) if name in PEERS else {}


def train(
    name: str, dataset: "PreparedDataset", config: Config, changes: Changes
) -> "ItemRecommender":
    """Trains the model of a row; the arguments are those of `settings`."""
    from cmclrec_tf.baselines.feature_knn import FeatureKNN
    from cmclrec_tf.baselines.feature_mlp import train_feature_mlp
    from cmclrec_tf.baselines.popularity import Popularity
    from cmclrec_tf.baselines.random import Random

    dataset = dataset.with_history(config.data.max_history)
    hides = config.evaluate.hides_history
    if name == "random":
        return Random(dataset, config.seed, hides)
    if name.startswith("popularity"):
        return Popularity(dataset, _events(name), hides)
    if name.startswith(_KNN):
        return FeatureKNN(dataset, _events(name), seed=config.seed, hides_history=hides)
    if name.startswith(_MLP):
        return train_feature_mlp(dataset, _mlp(name, config, changes))
    from experiments.two_tower.two_tower import train_two_tower

    return train_two_tower(dataset, _towers(name, config, changes))


def validate(model: "FeatureMLP | TwoTower", dataset: "PreparedDataset") -> float:
    """Returns the validation NDCG of a trained model: the metric of stopping and tuning."""
    from cmclrec_tf.baselines.feature_mlp import FeatureMLP, read_validation

    if not isinstance(model, FeatureMLP):
        return model.validation["ndcg"]
    data = read_validation(dataset, model.settings.events)
    return float(model.evaluate(*data, return_dict=True, verbose=0)["ndcg"])


def _mlp(name: str, config: Config, changes: Changes) -> "FeatureMLPConfig":
    from cmclrec_tf.baselines.feature_mlp import FeatureMLPConfig

    return checks.build(FeatureMLPConfig, {**_shared(name, config), **changes}, name)


def _towers(name: str, config: Config, changes: Changes) -> TwoTowerConfig:
    shared = {**_shared(name, config), "max_history": config.data.max_history}
    return checks.build(TwoTowerConfig, {**shared, **changes}, name)


def _shared(name: str, config: Config) -> dict[str, Any]:
    hides = config.evaluate.hides_history
    return {"events": _events(name), "seed": config.seed, "hides_history": hides}


def _events(name: str) -> str:
    _, _, events = name.rpartition("-")
    return events if events in ("last", "recent", "decayed") else "all"
