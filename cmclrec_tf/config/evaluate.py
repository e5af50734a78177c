"""Settings of the evaluation, and of the gate that decides whether a model is pushed."""

import dataclasses

from cmclrec_tf.config import checks


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Reported metrics, and bounds that a model must reach to be blessed.

    Attributes:
        k: K of the Recall@K, NDCG@K and coverage@K that the gate and early stopping look at.
        ks: all values of K that are reported; `k` is one of them.
        slices: names of user features. The pipeline also reports the users of each value of these,
            warm, cold and together. Numeric features and those with a prefix cannot be sliced.
        min_warm_ndcg: lower bound of NDCG@K of the warm segment.
        min_cold_ndcg: lower bound of NDCG@K of the cold segment.
        min_cold_coverage: lower bound of the number of distinct items in the top K of all cold
            users together; one list for all users reaches only K.
        max_drop: share of the last blessed model's NDCG@K that a model may lose in each segment, in
            [0, 1]; 1 turns the comparison off. Chance alone separates equally good models, by 13 %
            among 900 cold users (docs/pipeline.md).
    """

    k: int = 20
    ks: tuple[int, ...] = (5, 10, 20, 50)
    slices: tuple[str, ...] = ()
    min_warm_ndcg: float = 0.01
    min_cold_ndcg: float = 0.01
    min_cold_coverage: int = 40
    max_drop: float = 0.3

    def __post_init__(self) -> None:
        for name in ("ks", "slices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        checks.positive(self, "k")
        cuts = all(type(k) is int and k > 0 for k in self.ks)
        checks.check(cuts, "ks", self.ks, "cuts are positive integers")
        checks.check(self.k in self.ks, "ks", self.ks, f"it must hold k={self.k}")
        names = all(type(name) is str for name in self.slices)
        checks.check(names, "slices", self.slices, "slices are names of user features")
        once = len(set(self.slices)) == len(self.slices)
        checks.check(once, "slices", self.slices, "a name must appear once")
        checks.not_negative(self, "min_warm_ndcg", "min_cold_ndcg", "min_cold_coverage")
        checks.proportion(self, "max_drop")
