"""What the baselines of other papers have beside `model.width` and `finetune`."""

import dataclasses

from cmclrec_tf.config import checks


@dataclasses.dataclass(frozen=True)
class BaselineConfig:
    """Settings of the baselines; each reads those that name it.

    Attributes:
        regularisation, confidence, sweeps: of the matrix factorisation that CLCRec, DeepMusic,
            DropoutNet, Heater, MWUF and SDCRec start from, see `factors.PreferenceVectors`.
        hidden: width of hidden layers.
        withheld: share of the train users whose preference vector is withheld in a batch
            (DropoutNet), or replaced by what features say (Heater, CLCRec, SDCRec) or by the mean
            one (MWUF).
        experts: how many transformations of the features are mixed (Heater).
        similarity: weight of the distance of transformed features to the preference vector
            (Heater).
        contrast: weight of the contrast of features and history (CLCRec), or of two items of a
            user (SDCRec).
        temperature: tau of that contrast, and of the factors' scores in a softmax (MWUF too).
        inner_steps, inner_rate: gradient steps to a user's own events (MeLU, MetaEmbedding,
            MetaTL, PDMA).
        negatives: sampled items that those steps compare with, and SDCRec's loss.
        cold_loss: weight of the loss before the steps, against that after them (MetaEmbedding).
        patterns: number of common preferences (PDMA).
        exchanged: share of a train user's fields that are another user's (PDMA).
        graph_users, neighbours: train users that are kept to look for neighbours among, and how
            many of them a user has (SDCRec).
    """

    regularisation: float = 1.0
    confidence: float = 10.0
    sweeps: int = 8
    hidden: int = 128
    withheld: float = 0.5
    experts: int = 4
    similarity: float = 1.0
    contrast: float = 0.5
    temperature: float = 0.2
    inner_steps: int = 1
    inner_rate: float = 0.1
    negatives: int = 128
    cold_loss: float = 0.1
    patterns: int = 32
    exchanged: float = 0.2
    graph_users: int = 4096
    neighbours: int = 10

    def __post_init__(self):
        checks.positive(self, "regularisation", "sweeps", "hidden", "experts", "temperature")
        checks.positive(self, "inner_steps", "inner_rate", "negatives", "patterns")
        checks.positive(self, "graph_users", "neighbours")
        checks.not_negative(self, "confidence", "similarity")
        checks.check(
            self.neighbours <= self.graph_users,
            "neighbours",
            self.neighbours,
            f"there are graph_users={self.graph_users} to choose from",
        )
        checks.proportion(self, "withheld", "contrast", "cold_loss", "exchanged")
