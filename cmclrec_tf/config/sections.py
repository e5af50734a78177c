"""Settings of the model, both training stages, how they compute, and the export."""

import contextvars
import dataclasses

from cmclrec_tf.config import checks

# Values of `model.mapper` that remove parts of the mapper: section 4.4 of the paper.
ABLATIONS = ("NoDA", "NoCL", "None")
# Names of backbones: the modules in `backbones/`, and those that `backbones.register` adds. They
# are listed here so that a wrong name is an error before Keras is imported.
BACKBONES = {"bert4rec", "caser", "gru4rec", "hstu", "ligr", "mclrec", "sasrec", "sr_gnn"}
# Values of `compute.jit_compile`: those of Keras.
_JIT_COMPILE: dict[str, bool | str] = {"auto": "auto", "always": True, "never": False}
# True while the config of an earlier run is built, see `Config.of_run`.
ACCEPTS_ANY_BACKBONE = contextvars.ContextVar("ACCEPTS_ANY_BACKBONE", default=False)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and variants of the mapper and the backbone.

    Attributes:
        backbone: name of the backbone R(.), such as `sasrec`. That of another package must be
            registered before the config is built, see docs/backbones.md.
        width: D, the width of embeddings and states; a multiple of `heads`.
        latent: Z, the width of the autoencoders' codes (Eq. 8).
        blocks: number of blocks of the backbone.
        heads: number of attention heads of the backbone.
        dropout: dropout rate of the backbone, in [0, 1).
        encoder_blocks: number of transformer blocks of the history encoder Psi_s (Eq. 2).
        mapper: `full`, or an ablation of section 4.4: `NoDA` has no augmentation, `NoCL` no
            cross-modal module, `None` neither.
        positions: which positions of a history the backbone learns from (Eq. 14): `last`, or
            `every` one. `every` makes the history side of the mapper causal, so that no position
            sees its own label.
        history_path: what the backbone reads as T_s (Eq. 13): the mapper's output (`mapped`), or
            the sum of that and the item embeddings (`residual`).
        sequence: what the backbone reads, X of Eq. 13: the simulated history in front of the real
            one (`prefix`), or `either` of the two, as printed.
        simulated: S, the number of positions of a simulated history; each stands for one of the
            newest positions of a real one. 0, or a number above L, means L.
        popularity_prior: whether the log of an item's popularity is part of its score, with
            coefficients that are fitted on validation users after stage 2.
        times: whether the backbone reads when the events took place, and the time of the request;
            of the backbones, `hstu` can, alone, without the mapper.
        expert_width: H, the width of an MLP from user features to scores, trained apart with item
            vectors of its own; the coefficients of the prior weigh it. With 0, or without
            popularity_prior, there is none.
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
    sequence: str = "prefix"
    simulated: int = 8
    popularity_prior: bool = True
    times: bool = False
    expert_width: int = 64

    def __post_init__(self) -> None:
        checks.types_of(self)
        if not ACCEPTS_ANY_BACKBONE.get():
            checks.one_of(self, "backbone", tuple(sorted(BACKBONES)))
        sizes = ("width", "latent", "blocks", "heads", "encoder_blocks")
        checks.positive(self, *sizes)
        checks.at_most(self, 2**16, *sizes)
        checks.check(
            self.width % self.heads == 0, "heads", self.heads, f"it must divide width={self.width}"
        )
        checks.not_negative(self, "simulated", "expert_width")
        checks.share(self, "dropout")
        checks.one_of(self, "mapper", ("full", *ABLATIONS))
        checks.one_of(self, "positions", ("last", "every"))
        checks.one_of(self, "history_path", ("mapped", "residual"))
        checks.one_of(self, "sequence", ("prefix", "either"))

    @property
    def has_expert(self) -> bool:
        """Whether cold users have the second opinion of `expert_width`."""
        return self.popularity_prior and self.expert_width > 0

    def simulated_positions(self, length: int) -> int:
        """Returns S, where real histories have `length` positions."""
        return min(self.simulated or length, length)


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Stage 1: trains the mapper on warm users (Eq. 15).

    Attributes:
        epochs: number of epochs; 0 leaves the mapper untrained.
        user_share: share of the train users that the stage reads, in (0, 1], by a keyed hash. A
            smaller share is part of a larger one, in both stages.
        epoch_steps: minimum number of batches in an epoch; a small train split is repeated.
        batch_size: users per batch, over all replicas.
        learning_rate: learning rate of the optimizer.
        alpha: weight of the contrastive loss of user features (Eqs. 3 and 15).
        beta: weight of the contrastive loss of histories (Eqs. 4 and 15).
        cross: lambda, the weight of the cross-modal losses in Eq. 11.
        contrast: weight of the contrastive loss between the two codes of a user, p_f and p_s; with
            0 it is not computed.
        temperature: tau of the contrastive losses, above 0.
        mask_share: share of the user features that each view masks (Eq. 1), in (0, 0.5]; the two
            views mask different ones.
        reduction: `mean` or `sum` over the elements of a user's reconstruction error (Eqs. 8, 9).
        targets: whether the reconstruction targets of Eqs. 8 and 9 are `fixed` (no gradient) or
            `move` (with gradient).
    """

    epochs: int = 8
    user_share: float = 1.0
    epoch_steps: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    alpha: float = 0.5
    beta: float = 0.5
    cross: float = 0.3
    contrast: float = 0.0
    temperature: float = 0.1
    mask_share: float = 0.5
    reduction: str = "mean"
    targets: str = "fixed"

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.not_negative(self, "epochs", "alpha", "beta", "cross", "contrast")
        checks.positive(
            self, "epoch_steps", "batch_size", "learning_rate", "temperature", "mask_share"
        )
        checks.positive(self, "user_share")
        checks.proportion(self, "user_share")
        checks.at_most(self, 2**20, "batch_size")
        checks.check(
            self.mask_share <= 0.5, "mask_share", self.mask_share, "disjoint views need <= 0.5"
        )
        checks.one_of(self, "reduction", ("mean", "sum"))
        checks.one_of(self, "targets", ("fixed", "move"))


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """Stage 2: trains the mapper and the backbone together (Eq. 16).

    Attributes:
        epochs: maximum number of epochs.
        user_share: share of the train users that the stage reads, in (0, 1], as in `pretrain`.
        batch_size: users per batch, over all replicas.
        learning_rate: learning rate of the optimizer.
        eta: weight of the stage 1 loss (Eq. 16); with 0 that loss is not computed.
        cold_share: share of the users that lose their history in an epoch, with `sequence: either`
            (Eq. 12); in [0, 1).
        forgotten_share: share of the rows that forget the older part of their history, or all of
            it, with `sequence: prefix`; in [0, 1).
        hidden_share: share of the rows whose simulated history is hidden, with `sequence: prefix`,
            so that the model can do without user features; in [0, 1).
        cold_weight: weight of the loss of a cold row (Eq. 14); a warm row has weight 1.
        cold_decay: how a cold row weighs the user's items as targets: each next older item has
            this times the weight. 0 trains on the last item only, 1 on all items equally.
        distill: weight of the warm path's prediction (stop-gradient) in the cold path's target,
            in [0, 1].
        contrast: weight of the contrastive loss between the two states of a user, by features alone
            and with the history, with `sequence: prefix`; with 0 it is not computed.
        temperature: tau of that loss, above 0.
        feature_dropout: probability that a user feature of a cold row is masked, in [0, 1).
        weight_decay: weight decay of the feature embeddings and the feature side of the mapper.
        epoch_steps: minimum number of batches in an epoch; a small train split is repeated.
        patience: number of epochs after which training stops, if none of them is better on the
            validation users.
        ema: momentum of the moving average of the weights, which is evaluated and saved, in
            [0, 1); 0 uses the weights themselves.
        softmax: how the loss of `positions: every` is computed (Eq. 14): `full` over all items at
            once, `chunked` with the same result in less memory, or `sampled` over sampled items
            with a correction.
        negatives: number of sampled items per batch, shared by all positions.
        warm_start: whether the pipeline starts stage 2 from the last blessed model, if its settings
            are the same, and skips stage 1.
    """

    epochs: int = 60
    user_share: float = 1.0
    batch_size: int = 64
    learning_rate: float = 1e-3
    eta: float = 0.0
    cold_share: float = 0.3
    forgotten_share: float = 0.3
    hidden_share: float = 0.1
    cold_weight: float = 0.5
    cold_decay: float = 0.8
    distill: float = 0.5
    contrast: float = 0.0
    temperature: float = 0.1
    feature_dropout: float = 0.4
    weight_decay: float = 0.05
    epoch_steps: int = 100
    patience: int = 5
    ema: float = 0.99
    softmax: str = "sampled"
    negatives: int = 1024
    warm_start: bool = False

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.positive(
            self, "epochs", "epoch_steps", "batch_size", "learning_rate", "patience", "negatives"
        )
        checks.positive(self, "user_share")
        checks.proportion(self, "user_share")
        checks.at_most(self, 2**20, "batch_size", "negatives")
        checks.positive(self, "temperature")
        checks.not_negative(self, "eta", "cold_weight", "contrast", "weight_decay")
        checks.share(
            self, "cold_share", "forgotten_share", "hidden_share", "feature_dropout", "ema"
        )
        checks.proportion(self, "cold_decay", "distill")
        checks.one_of(self, "softmax", ("full", "chunked", "sampled"))


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """How a training computes. The model is the same up to rounding and the draws of dropout.

    Attributes:
        precision: Keras's dtype policy of the layers: `float32`, or `mixed_bfloat16` or
            `mixed_float16`, which keep weights, losses and scores in float32. None takes the
            policy of the process.
        jit_compile: whether XLA compiles the steps: `always`, `never`, or `auto`, which does where
            there is a GPU and one replica. All batches then have one shape, since XLA compiles for
            one: histories are as long as the longest, and the last batch of an epoch is filled up
            with users of the epoch.
    """

    precision: str | None = None
    jit_compile: str = "auto"

    def __post_init__(self) -> None:
        checks.types_of(self)
        if self.precision is not None:
            checks.one_of(self, "precision", ("float32", "mixed_bfloat16", "mixed_float16"))
        checks.one_of(self, "jit_compile", tuple(_JIT_COMPILE))

    @property
    def keras_jit_compile(self) -> bool | str:
        """The value of `jit_compile` that Keras takes."""
        return _JIT_COMPILE[self.jit_compile]


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Settings of the exported model.

    Attributes:
        list_length: K, the number of items per user in a response; cut to the number of items.
    """

    list_length: int = 100

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.positive(self, "list_length")
