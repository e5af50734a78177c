"""The Evaluator's numbers are the library's, and each of its bounds holds a model back."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf.config import Config, EvaluateConfig, ServeConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.evaluation import metrics

pytestmark = pytest.mark.pipeline

K = 12
KS = (3, 10)
USERS = 90
ITEMS = [f"item{i}".encode() for i in range(25)]


@dataclasses.dataclass
class Answers:
    """Users with their targets, and the list that a model gives each of them."""

    user_ids: list
    cold: np.ndarray
    targets: list
    lists: np.ndarray

    def records(self):
        return [
            _record(user, cold, target)
            for user, cold, target in zip(self.user_ids, self.cold, self.targets, strict=True)
        ]

    def expected(self, rows, k):
        hit, n_relevant = metrics.hits(self.lists[rows], [self.targets[r] for r in rows])
        items = self.lists[rows][:, :k]
        return {
            f"recall@{k}": metrics.recall(hit, n_relevant, k).mean(),
            f"ndcg@{k}": metrics.ndcg(hit, n_relevant, k).mean(),
            f"coverage@{k}": len(set(items.ravel()) - {b""}),
        }


def _record(user, cold, targets):
    def texts(*values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    feature = {
        "user_id": texts(user),
        "segment": texts(b"cold" if cold else b"warm"),
        "history": texts() if cold else texts(b"item1", b"item2"),
        "target": texts(*targets),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture(scope="module")
def answers():
    rng = np.random.default_rng(0)
    cold = rng.random(USERS) < 0.4
    lists = np.stack([rng.permutation(np.array(ITEMS, object))[:K] for _ in range(USERS)])
    lists[3, 9:] = lists[5, 2:] = b""  # fewer items left than the list holds
    return Answers(
        user_ids=[f"u{i}".encode() for i in range(USERS)],
        cold=cold,
        # A cold user may be judged on all that was removed, and on items no model knows.
        targets=[
            rng.choice([*ITEMS, b"unseen"], size=rng.integers(1, 5) if c else 1, replace=False)
            for c in cold
        ],
        lists=lists,
    )


class _Listed(tf.Module):
    """A model that answers the list written down for each user."""

    def __init__(self, answers):
        super().__init__()
        self.cold = tf.constant(answers.cold)
        self.lists = tf.constant(answers.lists.astype("S16"))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(self, examples):
        parsed = tf.io.parse_example(examples, {"user_id": tf.io.FixedLenFeature([], tf.string)})
        rows = tf.strings.to_number(tf.strings.substr(parsed["user_id"], 1, 9), tf.int32)
        lists = tf.gather(self.lists, rows)
        scores = tf.zeros_like(lists, tf.float32)
        return {"item_ids": lists, "scores": scores, "is_cold": tf.gather(self.cold, rows)}


@pytest.fixture(scope="module")
def evaluate(answers, tmp_path_factory):
    """Runs TFX's Evaluator on the answers; returns its evaluation folder and its verdict."""
    from tfx.components.evaluator.executor import Executor
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from pipeline.evaluation import eval_config

    root = tmp_path_factory.mktemp("evaluator")
    model = standard_artifacts.Model()
    model.uri = str(root / "model")
    module = _Listed(answers)
    tf.saved_model.save(
        module,
        str(root / "model" / "Format-Serving"),
        signatures={"serving_default": module.serve},
    )

    def run(name, config, keep=lambda cold: True):
        examples = standard_artifacts.Examples()
        examples.uri, examples.split_names = str(root / name / "examples"), '["test"]'
        split = root / name / "examples" / "Split-test"
        split.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(split / "data-0.gz"), "GZIP") as writer:
            for record, cold in zip(answers.records(), answers.cold, strict=True):
                if keep(cold):
                    writer.write(record)
        evaluation, blessing = (
            standard_artifacts.ModelEvaluation(),
            standard_artifacts.ModelBlessing(),
        )
        evaluation.uri, blessing.uri = (
            str(root / name / "evaluation"),
            str(root / name / "blessing"),
        )
        Executor().Do(
            {"model": [model], "examples": [examples]},
            {"evaluation": [evaluation], "blessing": [blessing]},
            {
                "eval_config": proto_utils.proto_to_json(eval_config(config)),
                "example_splits": '["test"]',
            },
        )
        return evaluation.uri, blessing.get_int_custom_property("blessed") == 1

    return run


def _config(**bounds):
    bounds = {"min_warm_ndcg": 0.0, "min_cold_ndcg": 0.0, "min_cold_coverage": 0, **bounds}
    return Config(evaluate=EvaluateConfig(k=10, ks=KS, **bounds), serve=ServeConfig(list_length=K))


@pytest.fixture(scope="module")
def blessed(evaluate):
    return evaluate("blessed", _config())


def test_numbers_are_the_librarys(answers, blessed):
    from pipeline.evaluation import read_failures, read_metrics

    evaluation, verdict = blessed
    assert verdict
    assert read_failures(evaluation) == []
    rows = read_metrics(evaluation)
    assert set(rows) == {"warm", "cold", "overall"}
    segments = {
        "warm": np.flatnonzero(~answers.cold),
        "cold": np.flatnonzero(answers.cold),
        "overall": np.arange(USERS),
    }
    for segment, users in segments.items():
        assert rows[segment]["users"] == len(users)
        for k in KS:
            for name, value in answers.expected(users, k).items():
                assert rows[segment][name] == pytest.approx(value, abs=1e-6), (segment, name)


def test_overall_lies_between_the_segments(blessed):
    from pipeline.evaluation import read_metrics

    rows = read_metrics(blessed[0])
    for k in KS:
        for metric in (f"recall@{k}", f"ndcg@{k}"):
            low, high = sorted((rows["warm"][metric], rows["cold"][metric]))
            assert low < rows["overall"][metric] < high


def test_a_missed_bound_of_any_segment_withholds_the_blessing(evaluate):
    from pipeline.evaluation import read_failures

    evaluation, verdict = evaluate(
        "bounds", _config(min_warm_ndcg=0.99, min_cold_ndcg=0.98, min_cold_coverage=1000)
    )
    assert not verdict
    failures = sorted(read_failures(evaluation))
    assert [line.split(" = ")[0] for line in failures] == [
        "cold coverage@10",
        "cold ndcg@10",
        "warm ndcg@10",
    ]
    assert "bound 1000" in failures[0]
    assert "bound 0.98" in failures[1]
    assert "bound 0.99" in failures[2]


def test_no_cold_users_withhold_the_blessing(evaluate):
    from pipeline.evaluation import read_failures

    evaluation, verdict = evaluate("warm-only", _config(), keep=lambda cold: not cold)
    assert not verdict
    assert any("cold" in line for line in read_failures(evaluation))


def test_a_cut_beyond_the_list_is_refused():
    from pipeline.evaluation import eval_config

    with pytest.raises(InputError, match="list_length"):
        eval_config(Config(serve=ServeConfig(list_length=49)))


def test_reading_from_nowhere_is_one_line(tmp_path):
    from pipeline.evaluation import read_metrics

    with pytest.raises(InputError, match="Run the pipeline again"):
        read_metrics(str(tmp_path / "absent"))
    with pytest.raises(InputError, match="Run the pipeline again"):
        read_metrics(str(tmp_path))
