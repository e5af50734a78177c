"""MetaEmbedding (Pan et al., SIGIR 2019): generates a user embedding that adapts in one step."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf.baselines.base import Baseline, mlp
from cmclrec_tf.baselines.meta import adapt_states, spread_negatives
from cmclrec_tf.losses.sampled_next_item import sample_zipf
from cmclrec_tf.models.cross_modal import item_embedding
from cmclrec_tf.types import Batch, BoolB, Features, FloatBD, IdsBL, Losses

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class MetaEmbedding(Baseline):
    """state_u = phi_u - alpha grad_phi L(phi_u; history of u), with phi_u = generator(x_u).

    The generator makes the embedding phi_u of a new user from the features x_u. It learns to be
    right at once, and right after a gradient step on the first events:

        loss = w L(phi_u; context) + (1 - w) L(phi'_u; another item of the user)

    with w = `baseline.cold_loss`. The state of a user without events is phi_u.

    Differences from the paper: it generates embeddings of advertisements for a trained model that
    stays fixed. Here they are embeddings of users, and the item embeddings are trained too.

    Source: Pan et al., Warm Up Cold-start Advertisements: Improving CTR Predictions via Learning to
    Learn ID Embeddings, SIGIR 2019, section 3.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = MetaEmbedding(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/cold_phase", "loss/warm_phase")

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        self.items = item_embedding(schema, self.config.model.width)
        self.generator = mlp(self.config.baseline.hidden, self.config.model.width, "generator")

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        generated = self._generate(features, training)
        negatives = spread_negatives(self.config.baseline.negatives, self.schema.items)
        after, _ = adapt_states(generated, self.items, history, negatives, self.config.baseline)
        return ops.where(is_cold[:, None], generated, after)

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        settings = self.config.baseline
        context, positive = self.leave_one_out(batch, training)
        generated = self._generate(batch["features"], training)
        negatives = sample_zipf(settings.negatives, self.schema.items, self.seed)
        after, before = adapt_states(generated, self.items, context, negatives, settings)
        cold, warm = ops.mean(before), self.item_loss(after, positive, context)
        total = settings.cold_loss * cold + (1 - settings.cold_loss) * warm
        return {"loss/cold_phase": cold, "loss/warm_phase": warm, "loss": total}

    def _generate(self, features: Features, training: bool | None) -> FloatBD:
        return self.generator(self.flat_tokens(features, training))
