"""The log-likelihood of the last item in the report of an evaluation."""

import numpy as np
import pytest

from cmclrec_tf.baselines.feature_mlp import FeatureMLP, FeatureMLPConfig
from cmclrec_tf.baselines.popularity import Popularity
from cmclrec_tf.baselines.random import Random
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.vocabulary import read
from cmclrec_tf.evaluation import evaluate
from cmclrec_tf.layers.masking import MASKED_SCORE
from cmclrec_tf.models import CMCLRec, ranking
from tests.conftest import FEATURES


def test_log_likelihood_of_the_last_item(records, tmp_path):
    """Of the last of several targets, over all items; an unknown one is no part of the mean."""
    dataset = _with_an_unknown_target(records, tmp_path)

    class Scored:
        has_logits = True

        def logits(self, batch):
            scores = np.zeros((len(batch["is_cold"]), dataset.schema.items), np.float32)
            scores[:, :2], scores[:, 2:5] = MASKED_SCORE, [3, 1, 2]
            return scores

        def recommend(self, batch, k):
            return ranking.recommend(self.logits(batch), batch, k)

    report = evaluate(Scored(), dataset, ks=(5,))
    others = dataset.schema.items - 5
    total = np.log(np.exp([3, 1, 2]).sum() + others)
    np.testing.assert_allclose(
        report.users["log_likelihood"], [2 - total, np.nan, 1 - total], rtol=1e-5
    )
    means = {segment: row.get("log_likelihood") for segment, row in report.rows.items()}
    assert means["warm"] == pytest.approx(2 - total, rel=1e-5)
    assert means["cold"] == pytest.approx(1 - total, rel=1e-5)
    assert means["overall"] == pytest.approx(1.5 - total, rel=1e-5)

    class Listed:
        recommend = Scored().recommend

    assert "log_likelihood" not in evaluate(Listed(), dataset, ks=(5,)).users


def _with_an_unknown_target(records, tmp_path):
    """A warm user whose target is item 4, a cold one of an unknown and one of item 3."""
    small = {split: records[split] for split in ("train", "val")}
    items = prepare_tables({**small, "test": records["test"]}, FEATURES, tmp_path / "first", 8)
    third, fourth = read(items.vocabularies["items"])[1:3]
    cold = {**records["test"][-1], "history": []}
    test = [
        {**records["test"][0], "target": [fourth]},
        {**cold, "user_id": "a", "target": [third, "new"]},
        {**cold, "user_id": "b", "target": [fourth, third]},
    ]
    return prepare_tables({**small, "test": test}, FEATURES, tmp_path / "second", 8)


@pytest.mark.usefixtures("eager")
def test_models_and_floors_have_a_log_likelihood(dataset, config):
    segments = ("warm", "cold", "overall")
    scorers = [
        CMCLRec(dataset.schema, config),
        Popularity(dataset),
        FeatureMLP(dataset.schema, FeatureMLPConfig()),
    ]
    for scorer in scorers:
        rows = evaluate(scorer, dataset, ks=(5,)).rows
        assert all(np.isfinite(rows[segment]["log_likelihood"]) for segment in segments)
    shares = np.exp(scorers[1].logits(next(iter(dataset.batches("test", 1))))[0].numpy())
    counts = scorers[1].scores[2:] + 0.5
    np.testing.assert_allclose(shares[2:] / shares.sum(), counts / counts.sum(), rtol=1e-5)
    rows = evaluate(Random(dataset), dataset, ks=(5,)).rows
    assert "log_likelihood" not in rows["warm"]
