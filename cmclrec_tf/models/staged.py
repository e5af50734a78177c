"""What the models share: a train_step over a dict of named losses, and how they are saved."""

import contextlib

import keras
import tensorflow as tf

from cmclrec_tf.config import Config
from cmclrec_tf.schema import Schema


class StagedModel(keras.Model):
    """A `keras.Model` whose loss is a weighted sum of named losses of its own.

    Subclasses implement `losses_of(batch, training) -> {name: scalar}` with the total under
    `loss`, and may report something else in validation by `validation_of(batch)`. They take
    `(schema, config)` and keep both under these names.

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
        with tf.GradientTape() as tape:
            losses = self.losses_of(batch, training=True)
            total = self.optimizer.scale_loss(losses["loss"])
        variables = self.trainable_variables
        # What no loss of this config reaches has gradient 0, so the optimizer knows every weight.
        pairs = zip(tape.gradient(total, variables), variables, strict=True)
        gradients = [tf.zeros_like(v) if g is None else g for g, v in pairs]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._update(losses)

    def test_step(self, data):
        return self._update(self.validation_of(_inputs(data)))

    def predict_step(self, data):
        return self(_inputs(data), training=False)

    def validation_of(self, batch):
        """What validation reports, {name: values of any shape}: the losses, unless overridden."""
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

    def _update(self, values):
        means = {mean.name: mean for mean in self._means}
        for name, value in values.items():
            means[name].update_state(value)
        return {name: means[name].result() for name in values}


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


def _inputs(data):
    return keras.utils.unpack_x_y_sample_weight(data)[0]
