"""What is reported of a model, and what it must reach to be blessed."""

import dataclasses

from cmclrec_tf.config import checks


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Evaluation by segment, and the gate.

    Attributes:
        k: the K of Recall@K and NDCG@K that is gated on.
        ks: every K that is reported.
        slices: names of user features; the pipeline also reports the users of each of their values,
            warm, cold and together. Not numeric ones, nor such with a prefix.
        min_warm_ndcg, min_cold_ndcg: a model below either is not blessed.
        min_cold_coverage: number of distinct items that the cold users' top K must reach together;
            one list for everybody reaches only K.
        max_drop: share of the last blessed model's NDCG@K that a model may lose, among warm users
            and among cold ones, and still be blessed; with 1 they are not compared. Chance alone
            moves equally good models apart, by 13 % among 900 cold users (docs/pipeline.md).
    """

    k: int = 20
    ks: tuple[int, ...] = (5, 10, 20, 50)
    slices: tuple[str, ...] = ()
    min_warm_ndcg: float = 0.01
    min_cold_ndcg: float = 0.01
    min_cold_coverage: int = 40
    max_drop: float = 0.3

    def __post_init__(self):
        for name in ("ks", "slices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        checks.positive(self, "k")
        cuts = all(type(k) is int and k > 0 for k in self.ks)
        checks.check(cuts, "ks", self.ks, "cuts are positive integers")
        checks.check(self.k in self.ks, "ks", self.ks, f"it must hold k={self.k}")
        names = all(type(name) is str for name in self.slices)
        checks.check(names, "slices", self.slices, "slices are names of user features")
        once = len(set(self.slices)) == len(self.slices)
        checks.check(once, "slices", self.slices, "a name is given once")
        checks.not_negative(self, "min_warm_ndcg", "min_cold_ndcg", "min_cold_coverage")
        checks.proportion(self, "max_drop")
