"""Everything configurable, as frozen dataclasses that are checked when built; YAML in and out."""

import dataclasses
import importlib.resources
import pathlib

import yaml

from cmclrec_tf.config import checks
from cmclrec_tf.config.baseline import BaselineConfig
from cmclrec_tf.config.evaluate import EvaluateConfig
from cmclrec_tf.errors import InputError

# The mapper with parts taken away: section 4.4 of the paper.
ABLATIONS = ("NoDA", "NoCL", "None")
# The settings of `data` that decide which users are in which split.
DRAW = ("split", "salt", "test_share", "val_share")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """From a log of interactions to split user records.

    Attributes:
        max_history: newest items kept of a user's history (L).
        min_events: users with fewer events are dropped.
        split: who is held out: `users`, some of them cold; or, with `leave-one-out`, the last two
            items of every user, which leaves nobody cold: for backbones beside published numbers.
        target: what a cold user is judged on: the `last` item, or `all` the removed ones.
        salt: key of the user hash that draws the splits; another salt is another draw.
        test_share: share of users held out for test, half of them warm and half cold.
        val_share: share of the remaining users held out for validation.
    """

    max_history: int = 50
    min_events: int = 5
    split: str = "users"
    target: str = "last"
    salt: str = "0"
    test_share: float = 0.3
    val_share: float = 0.2

    def __post_init__(self):
        checks.positive(self, "max_history", "test_share", "val_share")
        checks.check(
            self.min_events >= 2, "min_events", self.min_events, "a history and a target need 2"
        )
        checks.share(self, "test_share", "val_share")
        checks.one_of(self, "split", ("users", "leave-one-out"))
        checks.check(
            self.split == "users" or self.min_events >= 4,
            "min_events",
            self.min_events,
            "leave-one-out holds out 2 items, and a history and a target need 2",
        )
        checks.one_of(self, "target", ("last", "all"))


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of the mapper and of the backbone.

    Attributes:
        backbone: name of a registered backbone.
        width: D. latent: Z, width of the autoencoders' code.
        blocks, heads, dropout: of the backbone.
        encoder_blocks: transformer blocks of the history encoder Psi_s.
        mapper: `full`, or with parts taken away as in section 4.4: `NoDA` (no augmentation),
            `NoCL` (no cross-modal module), `None` (neither).
        positions: train the backbone on the `last` position or on `every` one; `every` makes the
            history side of the mapper causal, so that no position sees its own label.
        history_path: T_s is the mapper's output (`mapped`), or that plus the raw item embeddings
            (`residual`).
        simulated: newest positions of a simulated history that the backbone is given; 0, or more
            than L: all L.
        item_bias: add a learned score per item to the inner products. A vector database then needs
            it as one more dimension of the items, with 1 in that of the `user_embedding`s.
    """

    backbone: str = "sasrec"
    width: int = 64
    latent: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.2
    encoder_blocks: int = 1
    mapper: str = "full"
    positions: str = "every"
    history_path: str = "residual"
    simulated: int = 8
    item_bias: bool = False

    def __post_init__(self):
        checks.positive(self, "width", "latent", "blocks", "heads", "encoder_blocks")
        checks.check(
            self.width % self.heads == 0, "heads", self.heads, f"it must divide width={self.width}"
        )
        checks.not_negative(self, "simulated")
        checks.share(self, "dropout")
        checks.one_of(self, "mapper", ("full", *ABLATIONS))
        checks.one_of(self, "positions", ("last", "every"))
        checks.one_of(self, "history_path", ("mapped", "residual"))

    def simulated_of(self, length):
        """How many of the `length` positions of a simulated history are used, the newest ones."""
        return min(self.simulated or length, length)


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Stage 1 (Eq. 15).

    Attributes:
        epoch_steps: as in stage 2.
        alpha, beta: weights of the contrastive losses of features (Eq. 3) and histories (Eq. 4).
        cross: lambda of Eq. 11.
        temperature: tau of Eqs. 3 and 4.
        mask_share: share of the fields that each view of Eq. 1 masks; the two sets are disjoint.
        reduction: Eq. 8 over the elements of a user: `mean` or `sum`.
        targets: whether the reconstruction targets stay `fixed` (stop-gradient) or `move`.
    """

    epochs: int = 8
    epoch_steps: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    alpha: float = 0.5
    beta: float = 0.5
    cross: float = 0.3
    temperature: float = 0.1
    mask_share: float = 0.5
    reduction: str = "mean"
    targets: str = "fixed"

    def __post_init__(self):
        checks.not_negative(self, "epochs", "alpha", "beta", "cross")
        checks.positive(
            self, "epoch_steps", "batch_size", "learning_rate", "temperature", "mask_share"
        )
        checks.check(
            self.mask_share <= 0.5, "mask_share", self.mask_share, "disjoint views need <= 0.5"
        )
        checks.one_of(self, "reduction", ("mean", "sum"))
        checks.one_of(self, "targets", ("fixed", "move"))


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """Stage 2 (Eq. 16).

    Attributes:
        eta: weight of the stage 1 loss; with 0 it is not computed.
        cold_rows: how cold users are simulated: every row is trained `both` warm and cold, or a
            share of the users of an epoch is `flagged` cold (Eq. 12).
        cold_share: that share.
        cold_weight: weight of a cold row in Eq. 14, against 1 for a warm one.
        cold_decay: what a cold row is trained on: the user's items, each next older one with this
            times the weight: 0 is the last item alone, 1 all items alike.
        distill: share of the warm way's own answer for the same user among what the cold way is
            trained on; the warm way gets no gradient from it.
        feature_dropout: chance that a field of a cold row is masked.
        weight_decay: of the field embeddings and the feature side of the mapper.
        epoch_steps: batches that an epoch has at least; fewer users are gone through several times.
        patience: epochs without a better validation NDCG before training stops.
        ema: momentum of the moving average of the weights over the batches, which is what is judged
            and kept; 0: the weights themselves.
        softmax: how the every-position loss of Eq. 14 is computed: over the `full` catalogue at
            once, exact but `chunked`, or `sampled` with a correction.
        negatives: sampled items a batch, shared by its positions.
        warm_start: in the pipeline, begin stage 2 with the weights of the last blessed model, if
            there is one of the same settings, and leave stage 1 out; see `warm_start`.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 1e-3
    eta: float = 0.0
    cold_rows: str = "both"
    cold_share: float = 0.3
    cold_weight: float = 0.5
    cold_decay: float = 0.8
    distill: float = 0.5
    feature_dropout: float = 0.4
    weight_decay: float = 0.05
    epoch_steps: int = 100
    patience: int = 5
    ema: float = 0.99
    softmax: str = "sampled"
    negatives: int = 1024
    warm_start: bool = False

    def __post_init__(self):
        checks.positive(
            self, "epochs", "epoch_steps", "batch_size", "learning_rate", "patience", "negatives"
        )
        checks.not_negative(self, "eta", "cold_weight", "weight_decay")
        checks.share(self, "cold_share", "feature_dropout", "ema")
        checks.proportion(self, "cold_decay", "distill")
        checks.one_of(self, "cold_rows", ("both", "flagged"))
        checks.one_of(self, "softmax", ("full", "chunked", "sampled"))


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """The exported model.

    Attributes:
        list_length: K, items answered per user (at most the number of items).
        simulated_events: how many events the simulated history counts for, c, in `serving_default`
            and `user_embedding`: with n known items the state is n / (n + c) warm and the rest
            cold; see `models.hybrid`. 0 is Eq. 13: warm with any known item.
    """

    list_length: int = 100
    simulated_events: float = 0.0

    def __post_init__(self):
        checks.positive(self, "list_length")
        checks.not_negative(self, "simulated_events")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run. `seed` fixes initial weights, shuffling and every draw."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    baseline: BaselineConfig = BaselineConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    serve: ServeConfig = ServeConfig()
    seed: int = 0

    def __post_init__(self):
        checks.not_negative(self, "seed")

    def to_dict(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """Builds a config from nested dicts; an unknown key is an `InputError`."""
        return checks.build(cls, values or {}, "config")

    def changed(self, values):
        """The config with other settings, `{path: value}`, such as `{"finetune.ema": 0}`.

        Raises:
            InputError: there is no such setting, or a value is out of bounds.
        """
        nested = self.to_dict()
        for path, value in values.items():
            part, _, field = path.rpartition(".")
            place = nested.get(part) if part else nested
            if not isinstance(place, dict) or field not in place:
                raise InputError(
                    f"setting {path}={value!r}",
                    "it must be a field of the config, as finetune.ema",
                    "Correct the name.",
                )
            place[field] = value
        return Config.from_dict(nested)

    def to_yaml(self):
        values = self.to_dict()
        values["evaluate"] |= {name: list(values["evaluate"][name]) for name in ("ks", "slices")}
        return yaml.safe_dump(values, sort_keys=False)

    @classmethod
    def from_yaml(cls, path):
        """Reads a YAML file; what it leaves out has its default."""
        path = pathlib.Path(path)
        if not path.is_file():
            raise InputError(path, "the config file must exist", "Check the path.")
        try:
            return _parse(path.read_text("utf-8"), path)
        except UnicodeDecodeError as error:
            raise InputError(path, "it must be UTF-8 text", "Save it as UTF-8.") from error

    @classmethod
    def preset(cls, name):
        """A preset by name: `cmclrec_tf/presets/<name>.yaml`."""
        folder = importlib.resources.files("cmclrec_tf") / "presets"
        names = sorted(
            p.name[: -len(".yaml")] for p in folder.iterdir() if p.name.endswith(".yaml")
        )
        if name not in names:
            raise InputError(f"preset {name!r}", f"presets are {names}", "Choose one of them.")
        return _parse((folder / f"{name}.yaml").read_text(), f"preset {name}")


def _parse(text, source):
    try:
        return Config.from_dict(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(source, f"it must be YAML ({error})", "Correct the file.") from error
