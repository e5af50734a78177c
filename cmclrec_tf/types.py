"""Types of the library: tensors named by their dimensions, batches, and the roles of its parts.

The letters are the same in every signature, comment and shape:

    B batch    L history length    M user-feature fields    D width    Z latent width
    S positions of a simulated history    V items (PAD and OOV included)    K list length
    N any number of positions or rows

`FloatBLD` is a float tensor [B, L, D]. TensorFlow and Keras ship no types, so a type checker
reads every alias as any value; the names are for readers.

Example:
    >>> from cmclrec_tf.types import Batch, FloatBD
    >>> def state_of(batch: Batch) -> FloatBD: ...
"""

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    # A `tf.Tensor`, or the symbolic tensor that Keras traces a model with.
    Tensor: TypeAlias = tf.Tensor
    # A generator gives other numbers in each call, an int the same ones.
    Seed: TypeAlias = keras.random.SeedGenerator | int
else:
    Tensor = Seed = Any

Scalar: TypeAlias = Tensor

IdsB: TypeAlias = Tensor
"""int32 [B]: an item id for each row."""
IdsBK: TypeAlias = Tensor
"""int32 [B, K]: item ids of a list, best first; PAD where no item is left."""
IdsBL: TypeAlias = Tensor
"""int32 [B, L]: item ids of histories, oldest first, padded with PAD on the left."""
IdsBN: TypeAlias = Tensor
"""int32 [B, N]: item ids in any number of positions, PAD where there is none."""
IdsBNN: TypeAlias = Tensor
IdsN: TypeAlias = Tensor
KeysB: TypeAlias = Tensor
"""int64 [B]: hashes that are equal for equal users, or for equal profiles."""
KeysN: TypeAlias = Tensor

BoolB: TypeAlias = Tensor
BoolBL: TypeAlias = Tensor
"""bool [B, L]: the mask of histories, True where there is an item."""
BoolBM: TypeAlias = Tensor
BoolBN: TypeAlias = Tensor
BoolBNN: TypeAlias = Tensor
BoolN: TypeAlias = Tensor
BoolNN: TypeAlias = Tensor

FloatB: TypeAlias = Tensor
FloatBD: TypeAlias = Tensor
"""float [B, D]: a state for each user."""
FloatBK: TypeAlias = Tensor
FloatBLD: TypeAlias = Tensor
"""float [B, L, D]: embedded or encoded histories."""
FloatBMD: TypeAlias = Tensor
"""float [B, M, D]: tokens, one for each user feature."""
FloatBN: TypeAlias = Tensor
FloatBND: TypeAlias = Tensor
FloatBNN: TypeAlias = Tensor
FloatBSD: TypeAlias = Tensor
"""float [B, S, D]: simulated histories, oldest position first."""
FloatBV: TypeAlias = Tensor
"""float [B, V]: a score, or a share, for each item id."""
FloatBZ: TypeAlias = Tensor
"""float [B, Z]: latent codes."""
FloatN: TypeAlias = Tensor
FloatND: TypeAlias = Tensor
FloatNN: TypeAlias = Tensor
FloatV: TypeAlias = Tensor
FloatVD: TypeAlias = Tensor
"""float [V, D]: the item embeddings."""

TimesB: TypeAlias = Tensor
"""int64 [B]: a time for each row, in the unit of the log."""
TimesBL: TypeAlias = Tensor
"""int64 [B, L]: the times of the items of histories, 0 at padding."""
TimesBN: TypeAlias = Tensor

Features: TypeAlias = dict[str, Tensor]
"""User features by name: int32 ids [B, N], PAD = missing, or float32 [B, N], NaN = missing."""

Losses: TypeAlias = dict[str, Scalar]
"""Losses by name; the one that is minimised is under `loss`."""


class Times(TypedDict, total=False):
    """When events took place, in the unit of the log; only with `model.times`.

    Attributes:
        history_time: int64 [B, L], the times of the history.
        now: int64 [B], the time of the request.
    """

    history_time: TimesBL
    now: TimesB


class Users(Times):
    """What a model needs of users to recommend to them.

    Attributes:
        history: int32 [B, L], left-padded.
        features: user features by name.
        is_cold: bool [B], rows that are treated as users without a history.
    """

    history: IdsBL
    features: Features
    is_cold: BoolB


class Batch(Users):
    """A batch as `PreparedDataset.batches` yields it.

    Attributes:
        target: int32 [B, N], the items to predict; PAD where a user has fewer.
        user_key: int64 [B], equal for equal users.
        profile_key: int64 [B], equal for users with the same features.
    """

    target: IdsBN
    user_key: KeysB
    profile_key: KeysB


class ItemRecommender(Protocol):
    """Anything that `evaluate` accepts: it lists the K best items of each user."""

    def recommend(self, batch: Batch, k: int) -> IdsBK:
        """Returns ids [B, K], best first."""


class ItemScorer(ItemRecommender, Protocol):
    """A recommender that also predicts the share of each item among a user's next ones.

    `has_logits` is True. `evaluate` then reports the log-likelihood of the relevant item.
    """

    has_logits: bool

    def logits(self, batch: Batch) -> FloatBV:
        """Returns scores [B, V]; the prediction is their softmax, 0 for PAD and OOV."""


class BackboneLike(Protocol):
    """The part of the backbone contract R(.) that models use: see `backbones.base.Backbone`."""

    causal: bool

    def __call__(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBLD:
        """Returns the states G [B, L, D]; G at L-1 is the user's state."""

    def state(self, x: FloatBLD, mask: BoolBL, training: bool | None = None) -> FloatBD:
        """Returns G at L-1."""


KerasConfig: TypeAlias = dict[str, Any]
"""What `get_config` returns: plain values, as JSON holds them."""
