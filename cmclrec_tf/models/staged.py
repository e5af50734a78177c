"""The train_step that both stages share, over a dict of named losses."""

import keras
import tensorflow as tf


class StagedModel(keras.Model):
    """A `keras.Model` whose loss is a weighted sum of named losses of its own.

    Subclasses implement `losses_of(batch, training) -> {name: scalar}` with the total under
    `loss`, and may add validation metrics in `test_metrics(batch) -> {name: values}`.

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
        gradients = tape.gradient(total, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self._update(losses)

    def test_step(self, data):
        batch = _inputs(data)
        losses = self.losses_of(batch, training=False)
        return {**self._update(losses), **self._update(self.test_metrics(batch))}

    def predict_step(self, data):
        return self(_inputs(data), training=False)

    def test_metrics(self, batch):
        """More metrics for validation: {name: values of any shape}; none by default."""
        return {}

    @property
    def metrics(self):
        return self._means

    def _update(self, values):
        means = {mean.name: mean for mean in self._means}
        for name, value in values.items():
            means[name].update_state(value)
        return {name: means[name].result() for name in values}


def _inputs(data):
    return keras.utils.unpack_x_y_sample_weight(data)[0]
