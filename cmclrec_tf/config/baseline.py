"""Settings of the baselines, in addition to `model.width` and `finetune`."""

import dataclasses

from cmclrec_tf.config import checks


@dataclasses.dataclass(frozen=True)
class BaselineConfig:
    """Settings of the baselines; the names in brackets say which baseline reads which.

    "Factorisation" means all baselines that start from a matrix factorisation
    (`factors.PreferenceVectors`): CLCRec, DeepMusic, DropoutNet, Heater, MWUF and SDCRec.

    Attributes:
        regularisation: weight of the L2 penalty (factorisation).
        confidence: additional weight of an observed event over an unobserved one (factorisation).
        sweeps: number of alternating rounds over all users and all items (factorisation).
        hidden: width of hidden layers (all with a network).
        withheld: share of the train users of a batch that are trained like cold users, without
            their preference vector, in [0, 1] (DropoutNet, Heater, CLCRec, SDCRec, MWUF).
        experts: number of experts that transform the user features (Heater).
        similarity: weight of the squared distance between the transformed features and the
            preference vector (Heater).
        contrast: share of the contrastive loss in the total, in [0, 1]: of features against history
            (CLCRec), or of two items of a user (SDCRec).
        temperature: temperature of the contrastive loss (CLCRec, SDCRec) and of softmaxes over the
            scores of the factorisation (CLCRec, SDCRec, MWUF), above 0.
        inner_steps: number of gradient steps that adapt the model to a user's events (MeLU,
            MetaEmbedding, MetaTL, PDMA).
        inner_rate: step size of these steps.
        negatives: number of sampled items in the loss of these steps, and in that of SDCRec.
        cold_loss: share of the loss before the gradient steps in the total; the rest is the loss
            after them, in [0, 1] (MetaEmbedding).
        patterns: number of preference patterns that users share (PDMA).
        exchanged: share of a train user's features that are replaced by another user's, in [0, 1]
            (PDMA).
        graph_users: number of train users among which neighbours are searched (SDCRec).
        neighbours: number of neighbours per user; at most `graph_users` (SDCRec).
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

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.positive(self, "regularisation", "sweeps", "hidden", "experts", "temperature")
        checks.positive(self, "inner_steps", "inner_rate", "negatives", "patterns")
        checks.positive(self, "graph_users", "neighbours")
        checks.not_negative(self, "confidence", "similarity")
        checks.at_most(self, 2**16, "hidden", "experts", "patterns")
        checks.at_most(self, 2**20, "negatives")
        checks.at_most(self, 1000, "inner_steps")  # the graph has a copy of the model for each
        checks.check(
            self.neighbours <= self.graph_users,
            "neighbours",
            self.neighbours,
            f"there are graph_users={self.graph_users} to choose from",
        )
        checks.proportion(self, "withheld", "contrast", "cold_loss", "exchanged")
