"""Base of the models: a train step over named losses, and saving with the precision policy."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from cmclrec_tf import replicas
from cmclrec_tf.config import Config
from cmclrec_tf.schema import Schema
from cmclrec_tf.types import Batch, KerasConfig, Losses, Scalar, Tensor

if TYPE_CHECKING:
    from typing_extensions import Self


class StagedModel(keras.Model):
    """A `keras.Model` that computes its own losses, by name, from a batch.

    `fit` and `evaluate` take batches of `PreparedDataset.batches`; there is no y, and `compile`
    takes an optimizer only. Subclasses take `(schema, config)`, keep both under these names, and
    implement `losses_of`.

    Args:
        names: names of all values that `losses_of` and `validation_of` may return. Each becomes a
            metric.

    Example:
        >>> class Shrink(StagedModel):
        ...     def __init__(self):
        ...         super().__init__(["loss"])
        ...         self.x = self.add_weight(shape=(), initializer="ones")
        ...     def call(self, batch):
        ...         return self.x
        ...     def losses_of(self, batch, training=None):
        ...         return {"loss": self.x**2}
        >>> model, batch = Shrink(), {"user_key": tf.constant([7])}
        >>> _ = model(batch)
        >>> model.compile(keras.optimizers.SGD(0.25))
        >>> loss = model.train_on_batch(batch)
        >>> float(model.x)  # 1 - 0.25 * 2
        0.5
    """

    schema: Schema
    config: Config

    def __init__(self, names: tuple[str, ...], **kwargs: Any) -> None:
        # Layers cast for themselves: a large number among the user features must not overflow
        # in half precision before it is standardised.
        super().__init__(autocast=False, **kwargs)
        self._means = [keras.metrics.Mean(name=name) for name in names]

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        """Returns the named losses of a batch, with the one to minimise under `loss`.

        With several replicas, each returns its share, see `replicas`.
        """
        raise NotImplementedError

    def validation_of(self, batch: Batch) -> dict[str, Tensor]:
        """Returns what `evaluate` reports: the losses, unless a subclass overrides it.

        Returns:
            {name: the replica's share of a scalar, or the values [B] of all its rows}.
        """
        return self.losses_of(batch, training=False)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        batch = _inputs(data)
        with replicas.step(tf.shape(batch["user_key"])[0]), tf.GradientTape() as tape:
            losses = self.losses_of(batch, training=True)
            total = self.optimizer.scale_loss(losses["loss"])
        variables = self.trainable_variables
        # The optimizer knows all weights, whatever the config. Those that no loss of this config
        # reaches have no gradient, and no step.
        if not self.optimizer.built:
            self.optimizer.build(variables)
        pairs = zip(tape.gradient(total, variables), variables, strict=True)
        self.optimizer.apply_gradients([(g, v) for g, v in pairs if g is not None])
        return self._update(losses)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        batch = _inputs(data)
        with replicas.step(tf.shape(batch["user_key"])[0]):
            return self._update(self.validation_of(batch))

    def predict_step(self, data: Any) -> Tensor:
        return self(_inputs(data), training=False)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._means

    @classmethod
    def create(cls, schema: Schema, config: Config, **kwargs: Any) -> "Self":
        """Returns a new model of this class."""
        subclass: Callable[..., Self] = cls  # subclasses take other arguments than this class
        return subclass(schema, config, **kwargs)

    @classmethod
    def from_preset(cls, name: str, schema: Schema) -> "Self":
        """Returns the untrained model of a preset.

        Args:
            name: name of the preset, see `Config.preset`.
            schema: `Schema` with vocabulary sizes.

        Raises:
            InputError: there is no preset of that name.
        """
        return cls.create(schema, Config.preset(name))

    def get_config(self) -> KerasConfig:
        settings = {"schema": self.schema.to_dict(), "config": self.config.to_dict()}
        return {**settings, **name_and_policy(self)}

    @classmethod
    def from_config(cls, config: KerasConfig) -> "Self":
        with saved_policy(config):
            schema = Schema.from_dict(config["schema"])
            return cls.create(schema, Config.from_dict(config["config"]), name=config["name"])

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Private in Keras 3, and no public hook does this. Under a strategy Keras would average a
        # batch over the replicas to learn its shapes. Flags have no mean, and replicas have
        # different numbers of rows, so here the part of one replica builds the model.
        strategy = self._distribute_strategy
        if strategy is None or iterator is None or self.built:
            return
        with strategy.scope():
            _, _, batches = next(iter(iterator))
            first = lambda values: strategy.experimental_local_results(values)[0]
            self(_inputs(keras.tree.map_structure(first, next(batches))))
            if self.optimizer and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)

    def _update(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds the values of all replicas to the metrics, and returns the metrics' results."""
        means = {mean.name: mean for mean in self._means}
        sums = replicas.total({name: _sum_and_count(value) for name, value in values.items()})
        for name, (value, rows) in sums.items():
            means[name].update_state(value / rows, rows)
        return {name: replicas.step_result(means[name].result()) for name in values}


def name_and_policy(model: keras.Model) -> KerasConfig:
    """Returns the part of `get_config` that holds the model's name and its dtype policy.

    Example:
        >>> name_and_policy(keras.Sequential(name="small"))["name"]
        'small'
    """
    return {"name": model.name, "dtype": keras.dtype_policies.serialize(model.dtype_policy)}


@contextlib.contextmanager
def saved_policy(config: KerasConfig) -> Iterator[None]:
    """Gives the layers that are made inside the dtype policy that the saved model had.

    The models make their layers themselves, so the `dtype` of the model alone would not reach
    them.

    Args:
        config: from `get_config`.

    Example:
        >>> half = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
        >>> with saved_policy({"dtype": keras.dtype_policies.serialize(half)}):
        ...     keras.layers.Dense(1).compute_dtype
        'bfloat16'
    """
    with dtype_policy(keras.dtype_policies.deserialize(config["dtype"])):
        yield


@contextlib.contextmanager
def dtype_policy(policy: keras.DTypePolicy | str | None) -> Iterator[None]:
    """Gives the layers that are made inside a dtype policy; None leaves that of the process.

    Example:
        >>> with dtype_policy("mixed_bfloat16"):
        ...     keras.layers.Dense(1).compute_dtype
        'bfloat16'
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _sum_and_count(value: Tensor) -> tuple[Scalar, Scalar]:
    """Returns the sum of a replica's values, and their number; a scalar counts once in total."""
    value = tf.cast(value, tf.float32)
    if value.shape.rank:
        return tf.reduce_sum(value), tf.cast(tf.size(value), tf.float32)
    return value, replicas.share_of(tf.constant(1.0))


def _inputs(data: Any) -> Batch:
    batch: Batch = keras.utils.unpack_x_y_sample_weight(data)[0]
    return batch
