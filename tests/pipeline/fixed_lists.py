"""Models that return a fixed list for each user, and a run of TFX's Evaluator on them."""

import dataclasses
import shutil

import numpy as np
import tensorflow as tf

from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.evaluation import metrics
from cmclrec_tf.schema import MULTI, NUMERIC, Feature

FEATURES = (
    Feature("job"),
    Feature("hobbies", MULTI),
    Feature("age", NUMERIC),
    Feature("zip", prefix=1),
)
ITEMS = [f"item{i}".encode() for i in range(25)]
# The second one looks like a number and the third is not ASCII.
JOBS = (b"cook", b"08", "g\u00e4rtner".encode())
HISTORY = (b"item1", b"item2")
# Item i is the last item of i users, and is in the histories of 2 * (25 - i): so the more popular
# items are the first ones if all events count, and the last ones if the last events do.
TRAIN = [
    {
        "user_id": f"t{user}",
        "history": [seen.decode() for seen in ITEMS[: 25 - user // 2 if user < 50 else 1]],
        "target": [item.decode()],
    }
    for user, item in enumerate(item for i, item in enumerate(ITEMS) for _ in range(i))
]


@dataclasses.dataclass
class Answers:
    """Users with their targets and features, and the list that a model returns for each."""

    user_ids: list
    cold: np.ndarray
    targets: list
    lists: np.ndarray
    jobs: list
    hobbies: list

    def records(self):
        """Returns a serialized raw user record for each user."""
        columns = (self.user_ids, self.cold, self.targets, self.jobs, self.hobbies)
        return [_record(*user) for user in zip(*columns, strict=True)]

    def expected(self, rows, k):
        """Returns the metrics of the users `rows`, computed by the library."""
        items = self.lists[rows][:, :k]
        expected = {f"coverage@{k}": len(set(items.ravel()) - {b""})}
        for name, values in self.by_user(k).items():
            expected[name] = values[rows].mean()
            expected[f"{name}_error"] = values[rows].std(ddof=1) / np.sqrt(len(values[rows]))
        return expected

    def of_floor(self, events):
        """Returns the same users with the lists of popularity in the place of the model's."""
        order = {"all": ITEMS, "last": ITEMS[::-1]}[events]
        lists = [[item for item in order if cold or item not in HISTORY] for cold in self.cold]
        length = self.lists.shape[1]
        return dataclasses.replace(self, lists=np.array([items[:length] for items in lists], "S6"))

    def by_user(self, k):
        """Returns `{metric: float per user}`."""
        hit, n_relevant = metrics.hits(self.lists, self.targets)
        return {
            f"recall@{k}": metrics.recall(hit, n_relevant, k),
            f"ndcg@{k}": metrics.ndcg(hit, n_relevant, k),
        }


def random_answers(n_users, length, seed=0):
    """Returns random users with random lists.

    Args:
        n_users: number of users.
        length: number of items in a list.
        seed: seeds all random choices.
    """
    rng = np.random.default_rng(seed)
    cold = rng.random(n_users) < 0.4
    lists = np.stack([rng.permutation(np.array(ITEMS, object))[:length] for _ in range(n_users)])
    lists[3, 9:] = lists[5, 2:] = b""  # fewer items left than the list holds
    return Answers(
        user_ids=[f"u{i}".encode() for i in range(n_users)],
        cold=cold,
        # A cold user has several targets, some of which no model knows.
        targets=[
            rng.choice([*ITEMS, b"unseen"], size=rng.integers(1, 5) if c else 1, replace=False)
            for c in cold
        ],
        lists=lists,
        jobs=[[JOBS[i]] if i < 3 else [] for i in rng.choice(4, n_users, p=[0.5, 0.2, 0.2, 0.1])],
        hobbies=[
            list(rng.choice([b"chess", b"music"], rng.integers(3), replace=False)) for _ in cold
        ],
    )


def _record(user, cold, targets, jobs, hobbies):
    def texts(*values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    feature = {
        "user_id": texts(user),
        "segment": texts(b"cold" if cold else b"warm"),
        "history": texts() if cold else texts(*HISTORY),
        "target": texts(*targets),
        "job": texts(*jobs),
        "hobbies": texts(*hobbies),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


class _FixedLists(tf.Module):
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


def save_model(answers, folder):
    """Saves a model that returns the answers; returns its artifact."""
    from tfx.types import standard_artifacts

    model = standard_artifacts.Model()
    model.uri = str(folder)
    module = _FixedLists(answers)
    tf.saved_model.save(
        module, str(folder / "Format-Serving"), signatures={"serving_default": module.serve}
    )
    return model


def run_evaluator(folder, answers, config, model, baseline=None, keep=lambda cold: True):
    """Runs the Evaluator, with `TRAIN` as the train split.

    Args:
        folder: folder for the artifacts.
        answers: the users to evaluate on.
        config: the config of the gate.
        model: artifact of the model to evaluate.
        baseline: artifact of the model to compare with, or None.
        keep: function of `cold` that selects the users to evaluate on.

    Returns:
        The evaluation's folder, and whether the model was blessed.
    """
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from pipeline.components.evaluator import Executor
    from pipeline.evaluation.gate import eval_config

    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = str(folder / "examples"), '["test"]'
    split = folder / "examples" / "Split-test"
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "data-0.gz"), "GZIP") as writer:
        for record, cold in zip(answers.records(), answers.cold, strict=True):
            if keep(cold):
                writer.write(record)
    prepare_tables({"train": TRAIN}, FEATURES, folder / "prepared")
    transformed, graph = standard_artifacts.Examples(), standard_artifacts.TransformGraph()
    transformed.uri, transformed.split_names = str(folder / "transformed"), '["train"]'
    shutil.copytree(folder / "prepared" / "train", folder / "transformed" / "Split-train")
    graph.uri = str(folder / "graph")
    assets = folder / "graph" / "transform_fn" / "assets"
    shutil.copytree(folder / "prepared" / "vocabularies", assets)
    evaluation, blessing = standard_artifacts.ModelEvaluation(), standard_artifacts.ModelBlessing()
    evaluation.uri, blessing.uri = str(folder / "evaluation"), str(folder / "blessing")
    Executor().Do(
        {
            "model": [model],
            "examples": [examples],
            "baseline_model": [baseline] if baseline else [],
            "transformed_examples": [transformed],
            "transform_graph": [graph],
        },
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "eval_config": proto_utils.proto_to_json(eval_config(config, FEATURES)),
            "example_splits": '["test"]',
        },
    )
    return evaluation.uri, blessing.get_int_custom_property("blessed") == 1
