"""What the baselines of other papers have beside `model.width` and `finetune`."""

import dataclasses

from cmclrec_tf import checks


@dataclasses.dataclass(frozen=True)
class BaselineConfig:
    """Settings of the baselines; each reads those that name it.

    Attributes:
        regularisation, confidence, sweeps: of the matrix factorisation that DeepMusic, DropoutNet
            and Heater start from, see `factors.PreferenceVectors`.
        hidden: width of hidden layers.
        withheld: share of the train users whose preference vector is withheld in a batch
            (DropoutNet), or replaced by the transformed features (Heater).
        experts: how many transformations of the features are mixed (Heater).
        similarity: weight of the distance of transformed features to the preference vector
            (Heater).
    """

    regularisation: float = 1.0
    confidence: float = 10.0
    sweeps: int = 8
    hidden: int = 128
    withheld: float = 0.5
    experts: int = 4
    similarity: float = 1.0

    def __post_init__(self):
        checks.positive(self, "regularisation", "sweeps", "hidden", "experts")
        checks.not_negative(self, "confidence", "similarity")
        checks.proportion(self, "withheld")
