"""MetaEmbedding: an ID embedding that is generated from features and learns fast."""

import keras
from keras import ops

from cmclrec_tf.baselines.base import Baseline, mlp
from cmclrec_tf.baselines.meta import spread, stepped
from cmclrec_tf.losses.next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding


@keras.saving.register_keras_serializable("cmclrec_tf")
class MetaEmbedding(Baseline):
    """state_u = phi_u - alpha grad_phi L(phi_u; history of u), with phi_u = generator(x_u).

    The generator stands in for the ID embedding of a user who has none yet. It is trained to be
    right at once and to be right after a step on the first events:

        loss = w L(phi_u; context) + (1 - w) L(phi'_u; another item of the user)

    with w = `baseline.cold_loss`. A user without events is answered by phi_u.

    The paper generates embeddings of advertisements, in front of a model that was trained before
    and stays fixed; here they are those of users, and the item embeddings are trained along.

    Source: Pan et al., Warm Up Cold-start Advertisements: Improving CTR Predictions via Learning to
    Learn ID Embeddings, SIGIR 2019, section 3.
    """

    losses = ("loss/cold_phase", "loss/warm_phase")

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        self.items = item_embedding(schema, self.config.model.width)
        self.generator = mlp(self.config.baseline.hidden, self.config.model.width, "generator")

    def user_states(self, history, features, is_cold, training=None):
        generated = self._generated(features, training)
        negatives = spread(self.config.baseline.negatives, self.schema.items)
        after, _ = stepped(generated, self.items, history, negatives, self.config.baseline)
        return ops.where(is_cold[:, None], generated, after)

    def losses_of(self, batch, training=None):
        context, positive = self.left_out(batch, training)
        generated = self._generated(batch["features"], training)
        negatives = sample_zipf(self.config.baseline.negatives, self.schema.items, self.seed)
        after, before = stepped(generated, self.items, context, negatives, self.config.baseline)
        cold, warm = ops.mean(before), self.item_loss(after, positive, context)
        share = self.config.baseline.cold_loss
        total = share * cold + (1 - share) * warm
        return {"loss/cold_phase": cold, "loss/warm_phase": warm, "loss": total}

    def _generated(self, features, training):
        return self.generator(self.flat_tokens(features, training))
