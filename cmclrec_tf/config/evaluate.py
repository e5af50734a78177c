"""Settings of the evaluation, and of the gate that decides whether a model is pushed."""

import dataclasses

from cmclrec_tf.config import checks

# The discounts of NDCG@K are a list of K numbers, which is made for every user.
_LARGEST_K = 100_000


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
        seen_items: whether the items of a warm user's history are left out of the lists. `mask`
            leaves them out, so a user whose target stands in the history is a miss. `keep` suits
            data of repeat consumption, such as food or music. Validation, evaluation, floors and
            the exported lists all obey it.
        floors: what the pipeline does with a model whose NDCG@K in a segment is below that of the
            most popular items, counted over all events or over each user's last one. `warn` names
            the segment, `refuse` does not bless the model if the 95 % interval of the difference
            is below 0.
    """

    k: int = 20
    ks: tuple[int, ...] = (5, 10, 20, 50)
    slices: tuple[str, ...] = ()
    min_warm_ndcg: float = 0.01
    min_cold_ndcg: float = 0.01
    min_cold_coverage: int = 25
    max_drop: float = 0.3
    seen_items: str = "mask"
    floors: str = "warn"

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.positive(self, "k")
        cuts = all(0 < k <= _LARGEST_K for k in self.ks)
        checks.check(cuts, "ks", self.ks, f"cuts are positive integers, at most {_LARGEST_K}")
        checks.check(self.k in self.ks, "ks", self.ks, f"it must hold k={self.k}")
        once = len(set(self.slices)) == len(self.slices)
        checks.check(once, "slices", self.slices, "a name must appear once")
        checks.not_negative(self, "min_warm_ndcg", "min_cold_ndcg", "min_cold_coverage")
        checks.proportion(self, "max_drop")
        checks.one_of(self, "seen_items", ("mask", "keep"))
        checks.one_of(self, "floors", ("warn", "refuse"))

    @property
    def hides_history(self) -> bool:
        """Whether the items of a warm user's history are left out of the lists."""
        return self.seen_items == "mask"
