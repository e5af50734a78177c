"""An export is fit to serve only if every signature keeps the contract."""

import dataclasses

import pytest
import tensorflow as tf

from cmclrec_tf.schema import CATEGORICAL, MULTI, NUMERIC, Feature
from pipeline.components.serving_checks import ExportContract, check_export

ITEMS = [f"item{i}" for i in range(12)]
K = 9
LOWEST = tf.float32.min
FEATURES = (Feature("city", CATEGORICAL), Feature("likes", MULTI), Feature("age", NUMERIC))
CONTRACT = ExportContract(FEATURES, frozenset(item.encode() for item in ITEMS), list_length=K)
EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")


def _strings(name, rank):
    return tf.TensorSpec([None] * rank, tf.string, name=name)


class _Toy(tf.Module):
    """Ranks items by position, first those that a user's features name; `fault` breaks it."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.items = tf.constant(ITEMS)

    def signatures(self):
        exclude = _strings("exclude", 2)
        cold = [_strings("city", 1), _strings("likes", 2), tf.TensorSpec([None], name="age")]
        functions = {
            "warm": tf.function(self.warm, input_signature=[_strings("history", 2), exclude]),
            "cold": tf.function(self.cold, input_signature=[*cold, exclude]),
            "serving_default": tf.function(self.default, input_signature=[EXAMPLES]),
            "user_embedding": tf.function(self.embedding, input_signature=[EXAMPLES]),
            "simulated_history": tf.function(self.simulated, input_signature=cold),
        }
        if self.fault == "no simulated history":
            del functions["simulated_history"]
        if self.fault == "no embedding":
            del functions["user_embedding"]
        if self.fault == "no exclude":
            functions["warm"] = tf.function(
                lambda history: self.warm(history, history[:, :0]),
                input_signature=[_strings("history", 2)],
            )
        return functions

    def warm(self, history, exclude):
        return {**self.warm_lists(history, exclude), "known_items": self.known_items(history)}

    def known_items(self, history):
        is_known = tf.reduce_any(history[:, :, None] == self.items, axis=2)
        if self.fault == "unknown items count":
            is_known = history != ""
        return tf.reduce_sum(tf.cast(is_known, tf.int32), axis=1)

    def warm_lists(self, history, exclude):
        hidden = exclude if self.fault == "history comes back" else [history, exclude]
        hidden = tf.concat(hidden, axis=1)
        if self.fault == "exclude comes back":
            hidden = history
        return self.top_k(tf.zeros([tf.shape(history)[0], len(ITEMS)]), hidden)

    def cold(self, city, likes, age, exclude):
        likes = tf.concat([likes, city[:, None]], axis=1)
        raised = tf.cast(tf.reduce_any(likes[:, :, None] == self.items, axis=1), tf.float32)
        if self.fault == "missing numbers":
            raised += age[:, None]
        return self.top_k(raised * 50, exclude)

    def top_k(self, raised, hidden):
        scores = raised - tf.range(len(ITEMS), dtype=tf.float32)
        is_hidden = tf.reduce_any(hidden[:, :, None] == self.items, axis=1)
        scores, ids = tf.math.top_k(tf.where(is_hidden, LOWEST, scores), K)
        items = tf.where(scores > LOWEST, tf.gather(self.items, ids), "")
        if self.fault == "one item twice":
            items = tf.concat([items[:, :1], items[:, :1], items[:, 2:]], axis=1)
        if self.fault == "unknown item":
            items = tf.where(items == "item11", "item99", items)
        if self.fault == "short list":
            items, scores = items[:, 1:], scores[:, 1:]
        if self.fault == "hole in a list":
            items = tf.concat([items[:, :2], items[:, :1][:, :0], items[:, 3:]], axis=1)
            items = tf.pad(items, [[0, 0], [0, 1]], constant_values="")
        if self.fault == "not finite":
            scores = tf.where(scores < -5, float("nan"), scores)
        if self.fault == "increasing":
            scores = scores[:, ::-1]
        return {"item_ids": items, "scores": scores}

    def default(self, examples):
        ragged = tf.io.RaggedFeature
        parsed = tf.io.parse_example(
            examples,
            {
                "history": ragged(tf.string),
                "likes": ragged(tf.string),
                "city": ragged(tf.string),
                "age": ragged(tf.float32),
            },
        )
        history = parsed["history"].to_tensor("")
        city = parsed["city"].to_tensor("", shape=[None, 1])[:, 0]
        age = parsed["age"].to_tensor(float("nan"), shape=[None, 1])[:, 0]
        is_cold = parsed["history"].row_lengths() == 0
        warm = self.warm_lists(history, history[:, :0])
        cold = self.cold(city, parsed["likes"].to_tensor(""), age, history[:, :0])
        if self.fault == "warm users get other lists":
            raised = tf.tile([[0.0] * (len(ITEMS) - 1) + [1.0]], [tf.shape(history)[0], 1])
            warm = self.top_k(raised, history)
        if self.fault == "default shows the history":
            warm = self.warm_lists(history[:, :0], history[:, :0])
        if self.fault == "all take the warm path":
            cold = warm
        if self.fault == "histories are not read":
            warm = self.cold(city, parsed["likes"].to_tensor(""), age, history)
        if self.fault == "warm users need a feature":
            has_none = (city == "") & (parsed["likes"].row_lengths() == 0) & tf.math.is_nan(age)
            warm["scores"] += tf.where(has_none, float("nan"), 0.0)[:, None]
        if self.fault == "ages of warm users break":
            # The features of a record with an age, as only the first warm user has 30.
            cold["scores"] -= tf.where(age == 30, 9.0, 0.0)[:, None]
        if self.fault == "is_cold is inverted":
            is_cold = ~is_cold
            warm, cold = cold, warm
        both = {key: tf.where(is_cold[:, None], cold[key], warm[key]) for key in warm}
        if self.fault == "no known_items":
            return {**both, "is_cold": is_cold}
        return {**both, "is_cold": is_cold, "known_items": self.known_items(history)}

    def simulated(self, city, likes, age):
        """Two positions; the newer one names the five items after those of the older one."""
        rows = tf.shape(city)[0]
        items = tf.stack([self.items[:5], self.items[5:10]])
        scores = tf.constant([[0.9, 0.5, 0.0, -0.1, -1.0], [0.5, 0.4, 0.3, 0.2, 0.1]])
        if self.fault == "positions are lost":
            items, scores = items[0], scores[0]
        if self.fault == "too few nearest items":
            items, scores = items[:, :3], scores[:, :3]
        if self.fault == "padding is near":
            items = tf.concat([[[""], [""]], items[:, 1:]], axis=1)
        if self.fault == "far items come first":
            scores = scores[:, ::-1]
        if self.fault == "inner products":
            scores = 2 * scores
        repeats = lambda x: tf.tile(x[None], [rows, *[1] * len(x.shape)])
        scores = repeats(scores)
        if self.fault == "no features, no simulated history":
            scores += 0 * age[:, None, None]
        return {"item_ids": repeats(items), "scores": scores}

    def embedding(self, examples):
        fill = float("nan") if self.fault == "broken embedding" else 1.0
        return {"embedding": tf.fill([tf.shape(examples)[0], 4], fill)}


def _record(segment, history=(), city=(), likes=(), age=()):
    def texts(values):
        return tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[value.encode() for value in values])
        )

    feature = {
        "user_id": texts([f"{segment}-user"]),
        "segment": texts([segment]),
        "history": texts(history),
        "target": texts(["item0"]),
        "city": texts(city),
        "likes": texts(likes),
        "age": tf.train.Feature(float_list=tf.train.FloatList(value=age)),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


WARM = [
    _record("warm", ["item0"], ["item3"], age=[30.0]),
    # The history is so long that the list cannot be filled.
    _record("warm", [*ITEMS[:5], "gone"], likes=["item4"]),
]
COLD = [
    _record("cold", city=["item7"], likes=["item3", "item9"], age=[20.0]),
    _record("cold"),
    _record("cold", likes=["item11"]),
]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    def write(fault=None):
        folder = tmp_path_factory.mktemp("export")
        module = _Toy(fault)
        module.functions = module.signatures()
        tf.saved_model.save(module, str(folder), signatures=module.functions)
        return folder

    return write


def test_a_fit_export_has_no_reasons(export):
    assert check_export(export(), [*WARM, *COLD], CONTRACT) == []


def test_serving_default_need_not_agree_with_warm(export):
    """It reads the user features as well."""
    assert check_export(export("warm users get other lists"), [*WARM, *COLD], CONTRACT) == []


def test_history_items_come_back_if_and_only_if_seen_items_are_kept(export):
    keeps = dataclasses.replace(CONTRACT, hides_history=False)
    assert check_export(export("history comes back"), [*WARM, *COLD], keeps) == []
    # The second warm user's history is so long that a list without it is shorter.
    (reason, *_) = check_export(export(), [*WARM, *COLD], keeps)
    assert "7 items in a list, expected 9" in reason


def test_a_list_is_no_longer_than_the_catalogue(export):
    items = frozenset(item.encode() for item in ITEMS)
    longer = ExportContract(FEATURES, items, list_length=100)
    (reason, *_) = check_export(export(), [*WARM, *COLD], longer)
    assert "(2, 12)" in reason


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no embedding", "'user_embedding' is missing"),
        ("no exclude", "warm: inputs are ['history']"),
        ("history comes back", "warm: an item of the history or of exclude came back"),
        ("exclude comes back", "warm with exclude: an item of the history or of exclude"),
        ("one item twice", "an item twice"),
        ("unknown item", "not in the vocabulary"),
        ("short list", "lists are (2, 8)"),
        ("hole in a list", "8 items in a list, expected 9"),
        ("not finite", "scores are not finite"),
        ("missing numbers", "cold: scores are not finite"),
        ("increasing", "scores increase"),
        ("all take the warm path", "cold users get other lists than from 'cold'"),
        ("default shows the history", "serving_default: warm users: an item of the history"),
        ("histories are not read", "lists of warm users do not depend on the history"),
        ("ages of warm users break", "warm users without a history get other lists than from"),
        (
            "warm users need a feature",
            "serving_default: warm users without features: scores are not",
        ),
        ("is_cold is inverted", "is_cold is wrong for warm users"),
        ("unknown items count", "warm: known_items is not the number of items of the history"),
        ("no known_items", "serving_default: outputs are ['is_cold', 'item_ids', 'scores']"),
        ("broken embedding", "user_embedding"),
        ("no simulated history", "'simulated_history' is missing"),
        ("positions are lost", "simulated_history: items are (4, 5) and scores (4, 5)"),
        ("too few nearest items", "simulated_history: items are (4, 2, 3)"),
        ("padding is near", "simulated_history: 4 items in a list, expected 5"),
        ("far items come first", "simulated_history: scores increase along a list"),
        ("inner products", "simulated_history: scores are not cosines"),
        ("no features, no simulated history", "simulated_history: scores are not finite"),
    ],
)
def test_each_fault_is_a_reason(export, fault, reason):
    reasons = check_export(export(fault), [*WARM, *COLD], CONTRACT)
    assert any(reason in line for line in reasons), reasons


def test_a_user_feature_that_is_not_in_the_contract(export):
    fewer = ExportContract(FEATURES[:2], CONTRACT.items, K)
    cold, simulated = check_export(export(), [*WARM, *COLD], fewer)
    assert cold.startswith("cold: inputs are ['age', 'city', 'exclude', 'likes']")
    assert simulated.startswith("simulated_history: inputs are ['age', 'city', 'likes']")


def test_a_broken_export_gives_a_reason_and_no_crash(export, tmp_path):
    assert "cannot be loaded" in check_export(tmp_path, [*WARM, *COLD], CONTRACT)[0]
    folder = export()
    (folder / "saved_model.pb").write_bytes(b"\x0b not a graph")
    assert "cannot be loaded" in check_export(folder, [*WARM, *COLD], CONTRACT)[0]


def test_users_of_both_segments_are_needed(export):
    folder = export()
    assert "no cold user" in check_export(folder, WARM, CONTRACT)[0]
    assert "no warm user" in check_export(folder, COLD, CONTRACT)[0]


def test_reasons_hold_no_data_of_users(export):
    reasons = check_export(export("missing numbers"), [*WARM, *COLD], CONTRACT)
    assert reasons
    for value in ("item3", "item7", "item9", "-user"):
        assert not any(value in line for line in reasons)
