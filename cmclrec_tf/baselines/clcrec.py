"""CLCRec (Wei et al., ACM MM 2021): aligns features with preferences by contrastive learning."""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from cmclrec_tf.baselines.base import mlp
from cmclrec_tf.baselines.factors import LearnedItemsBaseline
from cmclrec_tf.losses.info_nce import info_nce
from cmclrec_tf.types import Batch, BoolB, Features, FloatBD, IdsBL, Losses

if TYPE_CHECKING:
    from cmclrec_tf.config import Config
    from cmclrec_tf.schema import Schema


@keras.saving.register_keras_serializable("cmclrec_tf")
class CLCRec(LearnedItemsBaseline):
    """The features of a user learn to predict the user's preference vector by contrast.

    loss = (1 - lambda) L_items + lambda L_contrast

    - L_contrast = InfoNCE(f(x_u), e_u) over the users of a batch, with features x_u and preference
      vector e_u.
    - L_items is the softmax cross-entropy of an item of the user. The user's state is e_u or, for a
      share of the users of a batch (hybrid training), f(x_u).

    Differences from the paper: users take the place of items. e_u is not trained; the item
    embeddings start from the factors divided by the temperature, and are trained.

    Source: Wei et al., Contrastive Learning for Cold-Start Recommendation, ACM MM 2021, section 3.

    Args:
        schema, config: see `Baseline`.

    Example:
        >>> import cmclrec_tf as cm
        >>> from cmclrec_tf.data.toy import toy_dataset
        >>> data = toy_dataset()
        >>> model = CLCRec(data.schema, cm.Config.preset("tiny"))
        >>> model.recommend(next(iter(data.batches("test", 4))), k=5).shape
        TensorShape([4, 5])
    """

    losses = ("loss/items", "loss/contrast")

    def __init__(self, schema: "Schema", config: "Config", **kwargs: Any) -> None:
        super().__init__(schema, config, **kwargs)
        self.features = mlp(self.config.baseline.hidden, self.config.model.width, "features")

    def user_states(
        self, history: IdsBL, features: Features, is_cold: BoolB, training: bool | None = None
    ) -> FloatBD:
        content = self.features(self.flat_tokens(features, training))
        return ops.where(is_cold[:, None], content, self.preferences(history))

    def losses_of(self, batch: Batch, training: bool | None = None) -> Losses:
        settings = self.config.baseline
        context, positive = self.leave_one_out(batch, training)
        content = self.features(self.flat_tokens(batch["features"], training))
        collaborative = self.preferences(context)
        replaced = self.withheld_rows(batch, training)[:, None]
        items = self.item_loss(ops.where(replaced, content, collaborative), positive, context)
        contrast = info_nce(content, collaborative, settings.temperature, batch["profile_key"])
        total = (1 - settings.contrast) * items + settings.contrast * contrast
        return {"loss/items": items, "loss/contrast": contrast, "loss": total}
