"""The rows of a table: what each name trains."""

import dataclasses
import functools
import importlib.resources

import yaml

from cmclrec_tf import baselines
from cmclrec_tf.config import ABLATIONS, Config, checks
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import VAL

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
        mlp: what a feature MLP has of its own, {field of `FeatureMLPConfig`: value}.
        tuning: what `tuning.tuned` found, None for a row that was not tuned.
    """

    name: str
    kind: str
    config: Config
    mlp: dict = dataclasses.field(default_factory=dict)
    tuning: dict | None = None

    @property
    def is_cmclrec(self):
        return self.kind == "cmclrec"

    @property
    def base(self):
        """Its name without the changes behind it."""
        return self.name.partition(":")[0]

    @property
    def has_mlp(self):
        return self.base.startswith(_MLP)

    def settings(self):
        """Everything that decides what the row trains, as plain values."""
        if self.kind != "floor":
            config = _trained_by(self.config, self.kind)
            return {"row": self.name, "kind": self.kind, "config": config}
        own = dataclasses.asdict(self._mlp()) if self.has_mlp else {}
        return {"row": self.name, "seed": self.config.seed, **own}

    def for_run(self, run):
        """The row as run number `run` trains it: salt and seed are the number."""
        data = dataclasses.replace(self.config.data, salt=str(run), target="all")
        return dataclasses.replace(
            self, config=dataclasses.replace(self.config, data=data, seed=run)
        )

    def setting(self, path):
        """The value of a setting, such as `finetune.ema`; a feature MLP's have no dots."""
        if self.has_mlp:
            return getattr(self._mlp(), path)
        return functools.reduce(getattr, path.split("."), self.config)

    def changed(self, values):
        """The row with other settings, {path: value}.

        Raises:
            InputError: it has no such setting, or the value is out of bounds.
        """
        if self.has_mlp:
            row = dataclasses.replace(self, mlp={**self.mlp, **values})
            row._mlp()  # refuses what it does not have
            return row
        if self.kind == "floor":
            raise InputError(f"model {self.name!r}", "it takes no config", "Drop what follows :.")
        return dataclasses.replace(self, config=self.config.changed(values))

    def tuned(self, found):
        """The row with what `tuning.tuned` found."""
        return dataclasses.replace(self.changed(found["values"]), tuning=found)

    def validate(self, model, dataset):
        """Validation NDCG of a trained model, by which the row is stopped and tuned: a float."""
        from cmclrec_tf.baselines.feature_mlp import read_split
        from cmclrec_tf.training import validate

        if self.has_mlp:
            data = read_split(dataset, VAL, self._mlp().events)
            return float(model.evaluate(*data, return_dict=True, verbose=0)["ndcg"])
        found = validate(model, dataset, self.config)
        return found["ndcg_warm" if self.kind == "backbone" else "ndcg"]

    def train(self, dataset, log_dir=None, checkpoint_dir=None):
        """Trains the row's model; returns what `evaluate` takes.

        Args:
            dataset: `PreparedDataset`.
            log_dir, checkpoint_dir: see `training.train`; floors leave nothing there.
        """
        if self.kind == "floor":
            return self._floor(dataset.with_history(self.config.data.max_history))
        from cmclrec_tf import training
        from cmclrec_tf.baselines.training import train_baseline

        if self.kind == "baseline":
            fit = functools.partial(train_baseline, self.base)
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
        if self.base.startswith("popularity"):
            return Popularity(dataset, self._events())
        if self.base.startswith(_KNN):
            return FeatureKNN(dataset, self._events(), seed=self.config.seed)
        return train_feature_mlp(dataset, self._mlp())

    def _mlp(self):
        from cmclrec_tf.baselines.feature_mlp import FeatureMLPConfig

        own = {"events": self._events(), "seed": self.config.seed, **self.mlp}
        return checks.build(FeatureMLPConfig, own, self.base)

    def _events(self):
        return "last" if self.base.endswith("-last") else "all"


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


# Fields of the config that only CMCLRec reads, and those that no backbone or no baseline reads.
_OF_THE_MAPPER = {
    "model": ("latent", "encoder_blocks", "mapper", "history_path", "simulated"),
    "finetune": (
        "eta",
        "cold_rows",
        "cold_share",
        "cold_weight",
        "cold_decay",
        "distill",
        "weight_decay",
    ),
}
_UNREAD = {
    "backbone": {"finetune": ("feature_dropout",)},
    "baseline": {
        "model": ("backbone", "blocks", "heads", "dropout", "positions"),
        "finetune": ("softmax",),
    },
}


def _trained_by(config, kind):
    """What the training of a kind of row reads of a config: a change of the rest trains nothing."""
    values = config.to_dict()
    del values["serve"]
    # The K of the NDCG that training stops by; the others are the gate's.
    values["evaluate"] = {"k": config.evaluate.k}
    if kind != "baseline":
        del values["baseline"]
    if kind in _UNREAD:
        del values["pretrain"]
        for part, fields in (*_OF_THE_MAPPER.items(), *_UNREAD[kind].items()):
            values[part] = {name: v for name, v in values[part].items() if name not in fields}
    return values


def _changed_row(name, dataset, given):
    """The row of a name and of the changes behind it."""
    base, _, changes = name.partition(":")
    row = dataclasses.replace(_row(base, dataset, given), name=name)
    if not changes:
        return row
    values = {}
    for change in changes.split("+"):
        path, equals, value = change.partition("=")
        if not equals:
            raise _no_setting(name, change)
        values[path] = _value(value)
    return row.changed(values)


def _no_setting(name, change):
    return InputError(
        f"model {name!r}",
        f"{change!r} must be a field of the config and a value, as finetune.ema=0",
        "Correct the model's name.",
    )


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
            "Correct the model's name.",
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
