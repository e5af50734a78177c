"""What the models share: a train_step over a dict of named losses, and how they are saved."""

import contextlib

import keras
import tensorflow as tf

from cmclrec_tf import replicas
from cmclrec_tf.config import Config
from cmclrec_tf.schema import Schema


class StagedModel(keras.Model):
    """A `keras.Model` whose loss is a weighted sum of named losses of its own.

    Subclasses implement `losses_of(batch, training) -> {name: scalar}` with the total under
    `loss`; of several replicas each returns its share, see `replicas`. They may report something
    else in validation by `validation_of(batch)`. They take `(schema, config)` and keep both under
    these names.

    Args:
        names: every name that the two may return.
    """

    def __init__(self, names, **kwargs):
        # Layers cast for themselves: a large number among the user features must not overflow
        # before it is standardised.
        super().__init__(autocast=False, **kwargs)
        self._means = [keras.metrics.Mean(name=name) for name in names]

    def train_step(self, data):
        batch = _inputs(data)
        with replicas.step(tf.shape(batch["user_key"])[0]), tf.GradientTape() as tape:
            losses = self.losses_of(batch, training=True)
            total = self.optimizer.scale_loss(losses["loss"])
        variables = self.trainable_variables
        # What no loss of this config reaches has gradient 0, so the optimizer knows every weight.
        pairs = zip(tape.gradient(total, variables), variables, strict=True)
        gradients = [tf.zeros_like(v) if g is None else g for g, v in pairs]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._update(losses)

    def test_step(self, data):
        batch = _inputs(data)
        with replicas.step(tf.shape(batch["user_key"])[0]):
            return self._update(self.validation_of(batch))

    def predict_step(self, data):
        return self(_inputs(data), training=False)

    def validation_of(self, batch):
        """What validation reports: the losses, unless overridden.

        Returns:
            {name: scalar, a replica's share, or the values of all rows [B]}.
        """
        return self.losses_of(batch, training=False)

    @property
    def metrics(self):
        return self._means

    @classmethod
    def from_preset(cls, name, schema):
        """The model of a preset, untrained.

        Args:
            name: of the preset, see `Config.preset`.
            schema: `Schema` with vocabulary sizes.

        Raises:
            InputError: no preset of that name.
        """
        return cls(schema, Config.preset(name))

    def get_config(self):
        own = {"schema": self.schema.to_dict(), "config": self.config.to_dict()}
        return {**own, **saved_policy(self)}

    @classmethod
    def from_config(cls, config):
        with policy_of(config):
            schema, settings = (
                Schema.from_dict(config["schema"]),
                Config.from_dict(config["config"]),
            )
            return cls(schema, settings, name=config["name"])

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras would average a batch over the replicas to learn its shapes. Flags
        # have no mean, and replicas have different numbers of rows: one replica's part does.
        strategy = self._distribute_strategy
        if strategy is None or iterator is None or self.built:
            return
        with strategy.scope():
            _, _, batches = next(iter(iterator))
            first = lambda values: strategy.experimental_local_results(values)[0]
            self(_inputs(keras.tree.map_structure(first, next(batches))))
            if self.optimizer and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)

    def _update(self, values):
        means = {mean.name: mean for mean in self._means}
        # Every replica counts what holds for the whole batch, so that each knows the same means.
        counted = replicas.total({name: _counted(value) for name, value in values.items()})
        for name, (value, rows) in counted.items():
            means[name].update_state(value / rows, rows)
        return {name: replicas.reported(means[name].result()) for name in values}


def saved_policy(model):
    """The part of `get_config` that `policy_of` and the name need."""
    return {"name": model.name, "dtype": keras.dtype_policies.serialize(model.dtype_policy)}


@contextlib.contextmanager
def policy_of(config):
    """Layers that are made inside have the saved model's dtype policy, as its own layers had.

    The models make their layers themselves, so a `dtype` of the model alone would not reach them.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(keras.dtype_policies.deserialize(config["dtype"]))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _counted(value):
    """The sum of a replica's values, and of how many over all replicas: a scalar is one."""
    value = tf.cast(value, tf.float32)
    if value.shape.rank:
        return tf.reduce_sum(value), tf.cast(tf.size(value), tf.float32)
    return value, replicas.shared(tf.constant(1.0))


def _inputs(data):
    return keras.utils.unpack_x_y_sample_weight(data)[0]
