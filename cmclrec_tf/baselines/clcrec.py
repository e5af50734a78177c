"""CLCRec: features made to tell what the collaborative embedding tells, by contrast."""

import keras
from keras import ops

from cmclrec_tf.baselines.base import mlp
from cmclrec_tf.baselines.factors import LearnedItemsBaseline
from cmclrec_tf.losses.info_nce import info_nce


@keras.saving.register_keras_serializable("cmclrec_tf")
class CLCRec(LearnedItemsBaseline):
    """loss = (1 - lambda) L_ui + lambda L_re: the paper's two contrasts, users in place of items.

    L_re = InfoNCE(f(x_u), e_u) over the users of a batch, of features and collaborative embedding;
    L_ui = softmax cross-entropy of an item of the user, from e_u or, for a share of the users of a
    batch (hybrid training), from f(x_u). e_u is the preference vector, which does not learn;
    item embeddings start from the factors over the temperature, and learn.

    Source: Wei et al., Contrastive Learning for Cold-Start Recommendation, ACM MM 2021, section 3.
    """

    losses = ("loss/items", "loss/contrast")

    def __init__(self, schema, config, **kwargs):
        super().__init__(schema, config, **kwargs)
        self.features = mlp(self.config.baseline.hidden, self.config.model.width, "features")

    def user_states(self, history, features, is_cold, training=None):
        content = self.features(self.flat_tokens(features, training))
        return ops.where(is_cold[:, None], content, self.preferences(history))

    def losses_of(self, batch, training=None):
        settings = self.config.baseline
        context, positive = self.left_out(batch, training)
        content = self.features(self.flat_tokens(batch["features"], training))
        collaborative = self.preferences(context)
        replaced = self.withheld(batch, training)[:, None]
        items = self.item_loss(ops.where(replaced, content, collaborative), positive, context)
        contrast = info_nce(content, collaborative, settings.temperature, batch["profile_key"])
        total = (1 - settings.contrast) * items + settings.contrast * contrast
        return {"loss/items": items, "loss/contrast": contrast, "loss": total}
