"""Fits a popularity prior on validation users, and says how likely their next items then are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.models.prior import NEUTRAL, SEGMENTS
from cmclrec_tf.schema import FIRST_ID, VAL
from cmclrec_tf.types import FloatB, FloatBD, FloatBV, FloatVD, IdsB, Tensor

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.models.recommender import Recommender

Array: TypeAlias = npt.NDArray[Any]

# Users of the fit, and of the log-likelihood after each epoch, which must not cost much.
_USERS, _EPOCH_USERS = 8192, 2048
_BATCH, _MATRIX = 256, 2**21
# Newton's method: most steps, halvings of a step, and gains below which it ends.
_STEPS, _HALVINGS = 20, 8
_GAIN, _EPOCH_GAIN = 1e-6, 1e-4


def count_popularity(model: "Recommender", dataset: "PreparedDataset") -> None:
    """Counts popularity in the train split and sets it in the prior of a model, if it has one.

    Args:
        model: a `Recommender`.
        dataset: the `PreparedDataset` that it is trained on.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = cm.CMCLRec(data.schema, cm.Config.preset("tiny"))
        >>> count_popularity(model, data)
        >>> bool(np.any(model.prior.log_popularity))
        True
    """
    from cmclrec_tf.baselines.popularity import Popularity  # the baselines import the models

    if model.prior is not None:
        shares = [Popularity(dataset, events).log_shares for events in ("last", "all")]
        model.prior.log_popularity.assign(np.stack(shares, axis=1))


def fit_prior(model: "Recommender", dataset: "PreparedDataset") -> dict[str, tuple[float, ...]]:
    """Fits the coefficients of the prior of a model on validation users, and sets them.

    The coefficients of a segment maximise the log-likelihood of the users' next items. Of nested
    fits - the scale alone, with last events, with all events, and for cold users with the expert,
    if there is one - the smallest one counts whose mean is within one standard error of the best
    one (paired over users), so that chance adds no prior.

    Args:
        model: a trained `CMCLRec` or `PlainRecommender`, with `count_popularity`.
        dataset: the `PreparedDataset` that it was trained on.

    Returns:
        The coefficients {segment: (a, b, c, d)}; nothing if the model has no prior.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = cm.CMCLRec(data.schema, cm.Config.preset("tiny"))
        >>> count_popularity(model, data)
        >>> sorted(fit_prior(model, data))
        ['cold', 'warm']
    """
    if model.prior is None:
        return {}
    problems = ValidationUsers(model, dataset, _USERS).problems()
    fitted = {name: problems[name].solve() if name in problems else NEUTRAL for name in SEGMENTS}
    model.prior.coefficients.assign([fitted[name] for name in SEGMENTS])
    return fitted


class ValidationUsers:
    """The validation users of a model that trains, as problems of fitting its prior.

    Args:
        model: a `CMCLRec` or `PlainRecommender` with a prior, see `count_popularity`.
        dataset: the `PreparedDataset` that it is trained on.
        most: largest number of users; the first ones of the split count.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = cm.CMCLRec(data.schema, cm.Config.preset("tiny"))
        >>> count_popularity(model, data)
        >>> sorted(ValidationUsers(model, data).log_likelihoods())
        ['cold', 'warm']
    """

    def __init__(
        self, model: "Recommender", dataset: "PreparedDataset", most: int = _EPOCH_USERS
    ) -> None:
        self.model = model
        self.batches = dataset.batches(VAL, _BATCH).take(-(-most // _BATCH))
        self._state = tf.function(
            lambda history, features, is_cold: model.state(history, features, is_cold, False),
            reduce_retracing=True,
        )
        self._coefficients: Mapping[str, Array] = {}

    def log_likelihoods(self) -> dict[str, float]:
        """Returns the mean log-likelihood of the users' next items, {segment: mean}.

        It is the one after a fit of all coefficients, so it measures what the states know
        beyond popularity, and does not fall because scores grow. The model keeps its own
        coefficients.
        """
        values, coefficients = {}, {}
        for segment, problem in self.problems().items():
            start = self._coefficients.get(segment)
            coefficients[segment], rows = problem.maximum(problem.most, start, _EPOCH_GAIN)
            values[segment] = float(rows.mean())
        self._coefficients = coefficients  # the next fit starts there
        return values

    def problems(self) -> dict[str, "Problem"]:
        """Returns the problem of each segment; none if no user has a known next item."""
        states: dict[str, list[Any]] = {segment: [] for segment in SEGMENTS}
        targets: list[Any] = []
        opinions: list[Any] = []  # of the expert
        for batch in self.batches:
            for segment in SEGMENTS:
                is_cold = ops.full(ops.shape(batch["is_cold"]), segment == "cold")
                g = self._state(batch["history"], batch["features"], is_cold)
                states[segment].append(ops.cast(g, "float32"))
            targets.append(batch["target"][:, 0])
            if self.model.expert:
                opinions.append(self.model.expert(batch["features"], training=False))
        items = np.concatenate(targets)
        known = items >= FIRST_ID
        if not known.any():
            return {}
        prior, table = self.model.prior, ops.cast(self.model.table, "float32")
        assert prior is not None
        popularity = ops.convert_to_tensor(prior.log_popularity)
        problems = {
            name: Problem(np.concatenate(parts)[known], items[known], table, popularity)
            for name, parts in states.items()
        }
        if self.model.expert:
            # Not for warm users: their features may be unknown, as in the signature `warm`.
            z = np.concatenate(opinions)[known]
            problems["cold"].add_expert(z, ops.convert_to_tensor(self.model.expert.vectors))
        return problems


class Problem:
    """Maximum likelihood of the coefficients: a concave problem, solved by Newton's method.

    Args:
        states: float [N, D], of users.
        targets: int [N], their next items.
        table: float [V, D], the item embeddings.
        popularity: float [V, 2], log p_last and log p_all.

    Example:
        >>> states, targets = np.ones((1, 2), "float32"), np.array([2])
        >>> problem = Problem(states, targets, ops.ones((4, 2)), ops.zeros((4, 2)))
        >>> problem.solve()  # two items tie, whatever the coefficients
        (1.0, 0.0, 0.0, 0.0)
    """

    def __init__(self, states: Array, targets: Array, table: FloatVD, popularity: Tensor) -> None:
        self.states, self.targets = states, targets
        self.table, self.popularity = table, popularity
        self.opinions, self.vectors = np.zeros((len(states), 0), np.float32), ops.zeros((0, 0))
        self.most = 3
        # Of as many users at a time as keep a matrix [users, V] at a few million numbers.
        self._rows = max(1, min(_BATCH, _MATRIX // table.shape[0]))

    def add_expert(self, opinions: Array, vectors: FloatVD) -> None:
        """Adds the scores of a `FeatureExpert`: z [N, H] times its item vectors [V, H]."""
        self.opinions, self.vectors, self.most = opinions, vectors, len(NEUTRAL)

    def solve(self) -> tuple[float, ...]:
        """Returns (a, b, c, d), see `fit_prior`."""
        fits = [self.maximum(free) for free in range(1, self.most + 1)]
        best = max((values for _, values in fits), key=np.mean)
        coefficients = next(c for c, values in fits if _is_as_good(values, best))
        # Scores that say less than nothing stay as they are.
        return tuple(map(float, coefficients)) if coefficients[0] > 0 else NEUTRAL

    def maximum(
        self, free: int, start: Array | None = None, gain: float = _GAIN
    ) -> tuple[Array, Array]:
        """Returns the coefficients, of which the first ones are free, and log-likelihoods [N].

        Args:
            free: how many coefficients are fitted; the others are those of the start.
            start: coefficients to begin with; None takes those that change nothing.
            gain: a step that adds less than this to the mean log-likelihood is the last one.
        """
        coefficients = np.array(NEUTRAL if start is None else start)
        values, gradient, covariance = self._at(coefficients)
        for _ in range(_STEPS):
            ridge = 1e-6 * np.eye(free) * len(values)
            step = np.linalg.solve(covariance[:free, :free] + ridge, gradient[:free])
            for halving in range(_HALVINGS):
                moved = coefficients.copy()
                moved[:free] += step / 2**halving
                result = self._at(moved)
                if result[0].mean() > values.mean():
                    break
            else:
                return coefficients, values
            gained = result[0].mean() - values.mean()
            coefficients, (values, gradient, covariance) = moved, result
            if gained < gain:
                break
        return coefficients, values

    def _at(self, coefficients: Array) -> tuple[Array, Array, Array]:
        """Returns log-likelihoods [N], their sum's gradient [F] and negative Hessian [F, F]."""
        values, gradient, covariance = [], np.zeros(self.most), np.zeros((self.most, self.most))
        for first in range(0, len(self.states), self._rows):
            rows = slice(first, first + self._rows)
            parts = _moments(
                ops.convert_to_tensor(self.states[rows]),
                ops.convert_to_tensor(self.targets[rows]),
                self.table,
                self.popularity,
                ops.convert_to_tensor(self.opinions[rows]),
                self.vectors,
                ops.cast(coefficients[: self.most], "float32"),
                self.most == len(NEUTRAL),
            )
            value, one, two = map(np.asarray, parts)
            values.append(value)
            gradient += one
            covariance += two
        return np.concatenate(values).astype(np.float64), gradient, covariance


@tf.function(reduce_retracing=True)
def _moments(
    states: FloatBD,
    targets: IdsB,
    table: FloatVD,
    popularity: Tensor,
    opinions: FloatBD,
    vectors: FloatVD,
    coefficients: Tensor,
    has_expert: bool,
) -> tuple[FloatB, Tensor, Tensor]:
    """Returns the log-likelihoods [B], and the first and second derivatives of their sum."""
    scores = ops.matmul(states, ops.transpose(table))  # [B, V]
    terms = [scores, *(ops.broadcast_to(popularity[:, i], ops.shape(scores)) for i in (0, 1))]
    if has_expert:
        terms.append(ops.matmul(opinions, ops.transpose(vectors)))
    x = ops.stack(terms, axis=1)  # [B, F, V]
    logits = ops.einsum("f,bfv->bv", coefficients, x)
    logits = ops.where(ops.arange(ops.shape(logits)[1]) >= FIRST_ID, logits, MASKED_SCORE)
    log_q: FloatBV = ops.log_softmax(logits)
    q = ops.exp(log_q)[:, None]
    mean = ops.sum(q * x, axis=2)  # [B, F], under q
    root = ops.sqrt(q) * x
    second = ops.matmul(root, ops.transpose(root, (0, 2, 1)))  # [B, F, F]
    covariance = second - mean[:, :, None] * mean[:, None, :]
    label = ops.cast(targets, "int32")[:, None]
    features = ops.take_along_axis(x, label[:, None], axis=2)[:, :, 0]
    value = ops.take_along_axis(log_q, label, axis=1)[:, 0]
    return value, ops.sum(features - mean, axis=0), ops.sum(covariance, axis=0)


def _is_as_good(values: Array, best: Array) -> bool:
    """Whether the mean of values [N] is within one standard error of that of the best ones."""
    worse = best - values
    return bool(worse.mean() <= worse.std() / np.sqrt(len(worse)))
