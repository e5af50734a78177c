"""The rows of a table: what each name trains."""

import dataclasses
import functools
import importlib.resources

import yaml

from cmclrec_tf import baselines
from cmclrec_tf.config import ABLATIONS, Config
from cmclrec_tf.errors import InputError

_MLP, _KNN = "features-mlp", "features-knn"
_FLOORS = ("random", "popularity", "popularity-last", _MLP, f"{_MLP}-last")
FLOORS = (*_FLOORS, _KNN, f"{_KNN}-last")
DEFAULT_ROWS = (*_FLOORS, "sasrec", "paper", "default")


@dataclasses.dataclass(frozen=True)
class Row:
    """One model of a table.

    Attributes:
        name: of the row.
        kind: `floor`, `baseline` (of another paper), `backbone` (alone, without the mapper) or
            `cmclrec`.
        config: of its training; a floor uses its `data` and `seed`.
    """

    name: str
    kind: str
    config: Config

    @property
    def is_cmclrec(self):
        return self.kind == "cmclrec"

    def settings(self):
        """Everything that decides what the row trains, as plain values."""
        if self.kind != "floor":
            config = _trained_by(self.config, self.kind)
            return {"row": self.name, "kind": self.kind, "config": config}
        own = dataclasses.asdict(self._mlp()) if self.name.startswith(_MLP) else {}
        return {"row": self.name, "seed": self.config.seed, **own}

    def for_run(self, run):
        """The row as run number `run` trains it: salt and seed are the number."""
        data = dataclasses.replace(self.config.data, salt=str(run), target="all")
        return dataclasses.replace(
            self, config=dataclasses.replace(self.config, data=data, seed=run)
        )

    def train(self, dataset, log_dir=None, checkpoint_dir=None):
        """Trains the row's model; returns what `evaluate` takes.

        Args:
            dataset: `PreparedDataset`.
            log_dir, checkpoint_dir: see `training.train`; floors leave nothing there.
        """
        if self.kind == "floor":
            return self._floor(dataset.with_history(self.config.data.max_history))
        from cmclrec_tf import training

        if self.kind == "baseline":
            base, _, _ = self.name.partition(":")
            fit = functools.partial(training.train_baseline, base)
        else:
            fit = training.train if self.is_cmclrec else training.train_plain
        return fit(dataset, self.config, log_dir=log_dir, checkpoint_dir=checkpoint_dir)

    def _floor(self, dataset):
        from cmclrec_tf.baselines.feature_knn import FeatureKNN
        from cmclrec_tf.baselines.feature_mlp import train_feature_mlp
        from cmclrec_tf.baselines.popularity import Popularity
        from cmclrec_tf.baselines.random import Random

        if self.name == "random":
            return Random(dataset, self.config.seed)
        if self.name.startswith("popularity"):
            return Popularity(dataset, self._events())
        if self.name.startswith(_KNN):
            return FeatureKNN(dataset, self._events(), seed=self.config.seed)
        return train_feature_mlp(dataset, self._mlp())

    def _mlp(self):
        from cmclrec_tf.baselines.feature_mlp import FeatureMLPConfig

        return FeatureMLPConfig(events=self._events(), seed=self.config.seed)

    def _events(self):
        return "last" if self.name.endswith("-last") else "all"


def rows(names, dataset, given=None):
    """The rows by their names.

    Args:
        names: of the rows. Behind a colon a name can change its config:
            `default:finetune.ema=0+model.simulated=4`.
        dataset: the dataset's name, by which a preset of its own is looked for.
        given: one `Config` for every row; without it each row has its preset.

    Returns:
        list of `Row`.

    Raises:
        InputError: a name that is no row, a name twice, a change that no config takes, or configs
            that split users differently.
    """
    names = list(names)
    if len(set(names)) < len(names):
        raise InputError(f"models {names}", "each is named once", "Drop the repeated one.")
    found = [_changed_row(name, dataset, given) for name in names]
    _check_one_population(found)
    return found


# Fields of the config that no backbone alone reads.
_OF_THE_MAPPER = {
    "model": ("latent", "encoder_blocks", "mapper", "history_path", "simulated"),
    "finetune": (
        "eta",
        "cold_rows",
        "cold_share",
        "cold_weight",
        "cold_decay",
        "distill",
        "feature_dropout",
        "weight_decay",
    ),
}


def _trained_by(config, kind):
    """What the training of a kind of row reads of a config: a change of the rest trains nothing."""
    values = config.to_dict()
    del values["serve"]
    # The K of the NDCG that training stops by; the others are the gate's.
    values["evaluate"] = {"k": config.evaluate.k}
    if kind != "baseline":
        del values["baseline"]
    if kind == "backbone":
        del values["pretrain"]
        for part, fields in _OF_THE_MAPPER.items():
            values[part] = {name: v for name, v in values[part].items() if name not in fields}
    return values


def _changed_row(name, dataset, given):
    """The row of a name and of the changes behind it."""
    base, _, changes = name.partition(":")
    row = _row(base, dataset, given)
    if not changes:
        return row
    if row.kind == "floor":
        raise InputError(f"model {name!r}", f"{base} takes no config", "Drop what follows the :.")
    values = row.config.to_dict()
    for change in changes.split("+"):
        path, equals, value = change.partition("=")
        *parts, field = path.split(".")
        place = functools.reduce(_inside, parts, values)
        if not equals or not isinstance(place, dict) or field not in place:
            raise InputError(
                f"model {name!r}",
                f"{change!r} must be a field of the config and a value, as finetune.ema=0",
                "Correct --models.",
            )
        place[field] = _value(value)
    return dataclasses.replace(row, name=name, config=Config.from_dict(values))


def _inside(found, part):
    return found.get(part) if isinstance(found, dict) else None


def _value(text):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # of a type that no field has but one of text


def _row(name, dataset, given):
    from cmclrec_tf.backbones import base

    presets = _presets()
    own = next((p for p in (f"{name}-{dataset}", name) if p in presets), None)
    default = next(p for p in (f"default-{dataset}", "default") if p in presets)
    if name in FLOORS:
        return Row(name, "floor", given or Config.preset(default))
    if name in baselines.names():
        return Row(name, "baseline", given or Config.preset(own or default))
    if name in base.names():
        config = given or Config.preset(own or default)
        model = dataclasses.replace(config.model, backbone=name)
        return Row(name, "backbone", dataclasses.replace(config, model=model))
    if name in ABLATIONS:
        config = given or Config.preset(own or default)
        model = dataclasses.replace(config.model, mapper=name)
        return Row(name, "cmclrec", dataclasses.replace(config, model=model))
    if own is None:
        raise InputError(
            f"model {name!r}",
            f"it must be one of {list(FLOORS)}, a baseline of {baselines.names()}, a backbone of "
            f"{base.names()} or a preset of {presets}",
            "Correct --models.",
        )
    return Row(name, "cmclrec", given or Config.preset(own))


def _presets():
    folder = importlib.resources.files("cmclrec_tf") / "presets"
    return sorted(p.name[: -len(".yaml")] for p in folder.iterdir() if p.name.endswith(".yaml"))


def _check_one_population(found):
    """All rows of a run read one prepared dataset, so they must agree on who is in it."""
    fields = ("split", "min_events", "test_share", "val_share")
    first = found[0]
    for row in found[1:]:
        for field in fields:
            value, other = getattr(row.config.data, field), getattr(first.config.data, field)
            if value != other:
                raise InputError(
                    f"data.{field}={value!r} of {row.name}",
                    f"all rows judge the same users, and {first.name} has {other!r}",
                    "Make the presets agree, or compare the two in tables of their own.",
                )
