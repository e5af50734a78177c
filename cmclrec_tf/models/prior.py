"""A popularity prior in the scores, with coefficients that are fitted on validation users."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.schema import FIRST_ID, VAL
from cmclrec_tf.types import FloatB, FloatBD, FloatBV, FloatVD, IdsB, KerasConfig, Scalar, Tensor

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.models.recommender import Recommender

SEGMENTS = ("cold", "warm")
_NEUTRAL = (1.0, 0.0, 0.0)
_USERS, _BATCH = 8192, 256
_STEPS, _HALVINGS = 20, 8


@keras.saving.register_keras_serializable("cmclrec_tf")
class PopularityPrior(keras.layers.Layer):
    """Adds the log of an item's popularity to its score.

    score(u, i) = a <g_u, e_i> + b log p_last(i) + c log p_all(i)

    p_last counts the last item of every train user, p_all all of their events. The coefficients
    (a, b, c) of a user with n known items are those of cold users for n = 0, and approach those of
    warm users: (cold + n warm) / (1 + n). They are (1, 0, 0), which changes nothing, until
    `fit_prior` sets them.

    The prior is part of the inner product: a user embedding [a g_u, b, c] has two dimensions more
    than the state, and the vector of an item is [e_i, log p_last(i), log p_all(i)].

    Args:
        items: V.

    Example:
        >>> prior = PopularityPrior(items=6)
        >>> prior(ops.array([[0.5, 2.0]]), items=ops.array([3])).numpy().tolist()
        [[0.5, 2.0, 0.0, 0.0]]
    """

    def __init__(self, items: int, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.items = items
        # In float32 under any policy: half precision would round the logs of rare items.
        self.log_popularity = self.add_weight(
            shape=(self.items, 2),
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="log_popularity",
        )
        self.coefficients = self.add_weight(
            shape=(len(SEGMENTS), len(_NEUTRAL)),
            initializer=lambda shape, dtype: ops.broadcast_to(ops.array(_NEUTRAL, dtype), shape),
            trainable=False,
            autocast=False,
            name="coefficients",
        )

    def call(self, g: FloatBD, items: IdsB) -> FloatBD:
        """Returns user embeddings float32 [B, D + 2].

        Args:
            g: float [B, D], the users' states.
            items: int [B], the number of known items of each user.
        """
        share = 1.0 / (1.0 + ops.cast(items, "float32"))[:, None]  # of the cold coefficients
        cold, warm = ops.split(ops.convert_to_tensor(self.coefficients), 2)
        scale, *weights = ops.split(share * cold + (1.0 - share) * warm, 3, axis=1)
        return ops.concatenate([scale * ops.cast(g, "float32"), *weights], axis=1)

    def scores(self, weights: Tensor) -> Tensor:
        """Returns b log p_last + c log p_all for weights (b, c) [..., 2], as float32 [..., V]."""
        return ops.matmul(weights, ops.transpose(ops.convert_to_tensor(self.log_popularity)))

    def get_config(self) -> KerasConfig:
        return {**super().get_config(), "items": self.items}


def fit_prior(model: "Recommender", dataset: "PreparedDataset") -> dict[str, tuple[float, ...]]:
    """Counts popularity in the train split, and fits the coefficients on validation users.

    The coefficients of a segment maximise the log-likelihood of the users' next items. Of three
    nested fits - the scale alone, with last events, with all events - the smallest one counts whose
    mean is within one standard error of the best one (paired over users), so that chance adds no
    prior.

    Args:
        model: a trained `CMCLRec` or `PlainRecommender`.
        dataset: the `PreparedDataset` that it was trained on.

    Returns:
        The coefficients {segment: (a, b, c)}; nothing if the model has no prior.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = cm.CMCLRec(data.schema, cm.Config.preset("tiny"))
        >>> sorted(fit_prior(model, data))
        ['cold', 'warm']
    """
    from cmclrec_tf.baselines.popularity import Popularity  # the baselines import the models

    prior = model.prior
    if prior is None:
        return {}
    counted = [Popularity(dataset, events) for events in ("last", "all")]
    prior.log_popularity.assign(np.stack([_log_shares(one.log_counts) for one in counted], axis=1))
    states, targets = _validation_states(model, dataset)
    known = targets >= FIRST_ID
    fitted = {}
    for segment in SEGMENTS:
        problem = _Problem(states[segment][known], targets[known], model.table, prior)
        fitted[segment] = problem.solve() if known.any() else _NEUTRAL
    prior.coefficients.assign([fitted[segment] for segment in SEGMENTS])
    return fitted


def _log_shares(log_counts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the log of each item's share [V], from the logs of its counts; 0 for PAD and OOV."""
    logs = np.zeros_like(log_counts)
    logs[FIRST_ID:] = log_counts[FIRST_ID:] - np.log(np.exp(log_counts[FIRST_ID:]).sum())
    return logs


def _validation_states(
    model: "Recommender", dataset: "PreparedDataset"
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]:
    """Returns the states {segment: [N, D]} and next items [N] of validation users."""
    states: dict[str, list[Any]] = {segment: [] for segment in SEGMENTS}
    targets: list[Any] = []
    for batch in dataset.batches(VAL, _BATCH).take(_USERS // _BATCH):
        for segment, nothing_known in (("warm", False), ("cold", True)):
            is_cold = ops.full(ops.shape(batch["is_cold"]), nothing_known)
            g = model.state(batch["history"], batch["features"], is_cold)
            states[segment].append(ops.cast(g, "float32"))
        targets.append(batch["target"][:, 0])
    return {name: np.concatenate(parts) for name, parts in states.items()}, np.concatenate(targets)


def _is_as_good(values: npt.NDArray[Any], best: npt.NDArray[Any]) -> bool:
    """Whether the mean of values [N] is within one standard error of that of the best ones."""
    worse = best - values
    return bool(worse.mean() <= worse.std() / np.sqrt(len(worse)))


class _Problem:
    """Maximum likelihood of the coefficients: a concave problem, solved by Newton's method."""

    def __init__(
        self,
        states: npt.NDArray[Any],
        targets: npt.NDArray[Any],
        table: FloatVD,
        prior: PopularityPrior,
    ) -> None:
        self.states, self.targets = states, targets
        self.table = ops.cast(table, "float32")
        self.popularity = ops.convert_to_tensor(prior.log_popularity)
        self.moments = tf.function(self._moments, reduce_retracing=True)

    def solve(self) -> tuple[float, ...]:
        """Returns (a, b, c), see `fit_prior`."""
        fits = [self._newton(np.arange(free)) for free in (1, 2, 3)]
        best = max((values for _, values in fits), key=np.mean)
        coefficients = next(c for c, values in fits if _is_as_good(values, best))
        # Scores that say less than nothing stay as they are.
        return tuple(map(float, coefficients)) if coefficients[0] > 0 else _NEUTRAL

    def _newton(self, free: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns the coefficients, of which some are free, and the users' log-likelihoods."""
        coefficients = np.array(_NEUTRAL)
        values, gradient, covariance = self._at(coefficients)
        for _ in range(_STEPS):
            ridge = 1e-6 * np.eye(len(free)) * len(values)
            step = np.linalg.solve(covariance[np.ix_(free, free)] + ridge, gradient[free])
            for halving in range(_HALVINGS):
                moved = coefficients.copy()
                moved[free] += step / 2**halving
                result = self._at(moved)
                if result[0].mean() > values.mean():
                    break
            else:
                return coefficients, values
            gain = result[0].mean() - values.mean()
            coefficients, (values, gradient, covariance) = moved, result
            if gain < 1e-6:
                break
        return coefficients, values

    def _at(
        self, coefficients: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns the log-likelihoods [N], their sum's gradient [3] and negative Hessian [3, 3]."""
        values, gradient, covariance = [], np.zeros(3), np.zeros((3, 3))
        for first in range(0, len(self.states), _BATCH):
            rows = slice(first, first + _BATCH)
            parts = self.moments(
                self.states[rows], self.targets[rows], ops.cast(coefficients, "float32")
            )
            value, one, two = map(np.asarray, parts)
            values.append(value)
            gradient += one
            covariance += two
        return np.concatenate(values).astype(np.float64), gradient, covariance

    def _moments(
        self, states: FloatBD, targets: IdsB, coefficients: Tensor
    ) -> tuple[FloatB, Tensor, Tensor]:
        scores = ops.matmul(states, ops.transpose(self.table))  # [B, V]
        logits = (
            coefficients[0] * scores + ops.matmul(self.popularity, coefficients[1:, None])[:, 0]
        )
        logits = ops.where(ops.arange(logits.shape[1]) >= FIRST_ID, logits, MASKED_SCORE)
        log_q: FloatBV = ops.log_softmax(logits)
        q = ops.exp(log_q)
        popularity = self.popularity
        # Means [B, 3] and second moments [B, 3, 3] of (score, log p_last, log p_all) under q.
        first = ops.concatenate(
            [ops.sum(q * scores, axis=1)[:, None], ops.matmul(q, popularity)], axis=1
        )
        with_popularity = ops.matmul(q * scores, popularity)  # [B, 2]
        pairs = popularity[:, :, None] * popularity[:, None, :]  # [V, 2, 2]
        of_popularity = ops.reshape(ops.matmul(q, ops.reshape(pairs, (-1, 4))), (-1, 2, 2))
        square: Scalar = ops.sum(q * scores * scores, axis=1)[:, None]
        top = ops.concatenate([square, with_popularity], axis=1)[:, None]  # [B, 1, 3]
        rest = ops.concatenate([with_popularity[:, :, None], of_popularity], axis=2)  # [B, 2, 3]
        second = ops.concatenate([top, rest], axis=1)
        covariance = second - first[:, :, None] * first[:, None, :]
        label = ops.cast(targets, "int32")[:, None]
        score = ops.take_along_axis(scores, label, axis=1)
        features = ops.concatenate([score, ops.take(popularity, label[:, 0], axis=0)], axis=1)
        value = ops.take_along_axis(log_q, label, axis=1)[:, 0]
        return value, ops.sum(features - first, axis=0), ops.sum(covariance, axis=0)
