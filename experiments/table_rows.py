"""Defines the rows of an experiment table: one row is one model, named and trained here."""

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from cmclrec_tf import baselines
from cmclrec_tf.config import ABLATIONS, Config
from cmclrec_tf.errors import InputError
from experiments import simple_rows
from experiments.row_settings import read_by, seen_items
from experiments.run_folders import Folder
from experiments.simple_rows import FLOORS, PEERS, RECENT, TABLE_FLOORS
from experiments.two_tower import tower_config

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.types import ItemRecommender

DEFAULT_ROWS = (*TABLE_FLOORS, *PEERS, "sasrec", "paper", "default")


@dataclasses.dataclass(frozen=True)
class Row:
    """One model of a table.

    Attributes:
        name: name of the row, with the changes of its config behind a colon.
        kind: `floor`, `peer` (a model of another library), `baseline` (of another paper),
            `backbone` (alone, without the mapper) or `cmclrec`.
        config: `Config` of the training; of floors and peers see `simple_rows.settings`.
        changes: changed settings of a floor or a peer, {field of its settings: value}.
        tuning: the result of `tuning.tune`, whose best values are in `config` or `changes`; None
            for a row that was not tuned.
    """

    name: str
    kind: str
    config: Config
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    tuning: dict[str, Any] | None = None

    @property
    def is_cmclrec(self) -> bool:
        return self.kind == "cmclrec"

    @property
    def base(self) -> str:
        """The name without changes."""
        return self.name.partition(":")[0]

    @property
    def is_simple(self) -> bool:
        """Whether the row is one of `simple_rows`, which have settings of their own or none."""
        return self.kind in ("floor", "peer")

    @property
    def simple_settings(self) -> dict[str, Any]:
        """The settings of a simple row; empty for rows that read a `Config`, or nothing."""
        if not self.is_simple:
            return {}
        return simple_rows.settings(self.base, self.config, self.changes)

    def settings(self) -> dict[str, Any]:
        """Returns all settings that the result of the training depends on, as plain values."""
        if not self.is_simple:
            config = read_by(self.config, self.kind)
            return {"row": self.name, "kind": self.kind, "config": config}
        values = self.simple_settings
        values.pop("hides_history", None)
        return {"row": self.name, "seed": self.config.seed, **values, **seen_items(self.config)}

    def for_run(self, run: int) -> "Row":
        """Returns the row of run number `run`: salt and seed become `run`.

        All withheld items are kept as targets, for the column "cold, all".
        """
        data = dataclasses.replace(self.config.data, salt=str(run), target="all")
        return dataclasses.replace(
            self, config=dataclasses.replace(self.config, data=data, seed=run)
        )

    def setting(self, path: str) -> Any:
        """Returns a setting by its path (`finetune.ema`, or `dropout` for a feature MLP)."""
        if self.is_simple:
            return self.simple_settings[path]
        return functools.reduce(getattr, path.split("."), self.config)

    def changed(self, values: Mapping[str, Any]) -> "Row":
        """Returns the row with other settings, {path: value}.

        Raises:
            InputError: the row has no such setting, or the value is out of bounds.
        """
        if self.simple_settings:
            row = dataclasses.replace(self, changes={**self.changes, **values})
            _ = row.simple_settings  # raises InputError for wrong settings
            return row
        if self.is_simple:
            raise InputError(
                f"model {self.name!r}", "it takes no config", "Drop the colon and all after it."
            )
        return dataclasses.replace(self, config=self.config.changed(values))

    def with_tuning(self, result: dict[str, Any]) -> "Row":
        """Returns the row with the best settings of a result of `tuning.tune`."""
        return dataclasses.replace(self.changed(result["values"]), tuning=result)

    def validate(self, model: Any, dataset: "PreparedDataset") -> float:
        """Returns the validation NDCG of a trained model: the metric of stopping and tuning."""
        from cmclrec_tf.training import validate

        if self.is_simple:
            return simple_rows.validate(model, dataset)
        metrics = validate(model, dataset, self.config)
        # A backbone alone gives all cold users one list, so only warm users can choose.
        return metrics["ndcg_warm" if self.kind == "backbone" else "ndcg"]

    def train(
        self,
        dataset: "PreparedDataset",
        log_dir: Folder | None = None,
        checkpoint_dir: Folder | None = None,
    ) -> "ItemRecommender":
        """Trains the row's model and returns it.

        Args:
            dataset: `PreparedDataset`.
            log_dir, checkpoint_dir: see `training.train`; floors and peers write neither.
        """
        if self.is_simple:
            return simple_rows.train(self.base, dataset, self.config, self.changes)
        from cmclrec_tf import training
        from cmclrec_tf.baselines.training import train_baseline

        if self.kind == "baseline":
            return train_baseline(self.base, dataset, self.config, log_dir, checkpoint_dir)
        train = training.train if self.is_cmclrec else training.train_plain
        return train(dataset, self.config, log_dir, checkpoint_dir)


def parse_rows(names: Iterable[str], dataset: str, config: Config | None = None) -> list[Row]:
    """Returns the rows for their names.

    Args:
        names: names of the rows. Behind a colon, a name can change the row's config:
            `default:finetune.ema=0+model.simulated=4`.
        dataset: name of the dataset; a preset `<row>-<dataset>` is preferred.
        config: one `Config` for all rows; None takes the preset of each.

    Raises:
        InputError: an unknown or repeated name, a change that is not possible, or configs that
            split the users differently.
    """
    names = list(names)
    if len(set(names)) < len(names):
        raise InputError(f"models {names}", "each is named once", "Drop the repeated one.")
    rows = [_parse_row(name, dataset, config) for name in names]
    _check_one_population(rows)
    return rows


def _parse_row(name: str, dataset: str, config: Config | None) -> Row:
    """Returns the row for a name with changes."""
    base, _, changes = name.partition(":")
    row = dataclasses.replace(_row(base, dataset, config), name=name)
    if not changes:
        return row
    values = {}
    for change in changes.split("+"):
        path, equals, value = change.partition("=")
        if not equals:
            raise InputError(
                f"model {name!r}",
                f"{change!r} must be a setting and its value, such as finetune.ema=0",
                "Correct the model's name.",
            )
        values[path] = _value(value)
    return row.changed(values)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # not YAML: kept as text, which only a text setting accepts


def _row(name: str, dataset: str, config: Config | None) -> Row:
    """Returns the row for a name without changes."""
    from cmclrec_tf import backbones

    presets = _presets()
    preset = next((p for p in (f"{name}-{dataset}", name) if p in presets), None)
    default = next(p for p in (f"default-{dataset}", "default") if p in presets)
    if name in (*FLOORS, RECENT):
        return Row(name, "floor", config or Config.preset(default))
    if name in PEERS:
        tower_config.check_installed()
        return Row(name, "peer", config or Config.preset(default))
    config = config or _config(preset or default, default)
    if name in baselines.names():
        return Row(name, "baseline", config)
    if name in backbones.names():
        # Alone, as its paper has it: without a prior, unless a change of the row adds one.
        model = dataclasses.replace(config.model, backbone=name, popularity_prior=False)
        return Row(name, "backbone", dataclasses.replace(config, model=model))
    if name in ABLATIONS:
        model = dataclasses.replace(config.model, mapper=name)
        return Row(name, "cmclrec", dataclasses.replace(config, model=model))
    if preset is None:
        raise InputError(
            f"model {name!r}",
            f"it must be one of {[*FLOORS, RECENT, *PEERS]}, a baseline of {baselines.names()}, "
            f"a backbone of {backbones.names()} or a preset of {presets}",
            "Correct the model's name.",
        )
    return Row(name, "cmclrec", config)


def _config(preset: str, default: str) -> Config:
    """Returns the config of a preset for a dataset.

    Whether people take the same items again is a fact of the dataset. So a preset for all datasets
    takes `evaluate.seen_items` from the preset `default-<dataset>`, and all rows of a table agree.
    """
    config = Config.preset(preset)
    if default == "default" or preset.endswith(default.removeprefix("default")):
        return config
    seen = Config.preset(default).evaluate.seen_items
    return config.changed({"evaluate.seen_items": seen})


def _presets() -> list[str]:
    """Returns the names of all presets."""
    folder = importlib.resources.files("cmclrec_tf") / "presets"
    return sorted(p.name[: -len(".yaml")] for p in folder.iterdir() if p.name.endswith(".yaml"))


def _check_one_population(rows: Sequence[Row]) -> None:
    """All rows of a run read one prepared dataset, so they must agree on its users."""
    fields = ("split", "split_time", "min_events", "test_share", "val_share")
    first = rows[0]
    for row in rows[1:]:
        for field in fields:
            value, other = getattr(row.config.data, field), getattr(first.config.data, field)
            if value != other:
                raise InputError(
                    f"data.{field}={value!r} of {row.name}",
                    f"all rows are evaluated on the same users, and {first.name} has {other!r}",
                    "Make the presets agree, or make a table for each.",
                )
