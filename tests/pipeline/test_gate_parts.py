"""The gate's metrics, intervals and slices, each without a run of the Evaluator."""

import dataclasses
import json

import numpy as np
import pytest

from cmclrec_tf.config import Config, EvaluateConfig, ServeConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, Feature
from tests.pipeline.fixed_lists import FEATURES

pytestmark = pytest.mark.pipeline

CONFIG = Config(
    evaluate=EvaluateConfig(k=10, ks=(3, 10), slices=("job", "hobbies")),
    serve=ServeConfig(list_length=12),
)


@pytest.mark.parametrize(("seen", "recall"), [("mask", 0.0), ("keep", 1.0)])
def test_popularity_obeys_seen_items(seen, recall):
    """The target is the most popular item, and stands in the user's history."""
    from pipeline.evaluation.floor_metrics import FloorDifference, RepeatCount
    from pipeline.evaluation.gate import eval_config

    config = eval_config(CONFIG.changed({"evaluate.seen_items": seen}), FEATURES)
    metrics = [metric for spec in config.metrics_specs for metric in spec.metrics]
    (hides, other) = (
        json.loads(metric.config)["hides_history"]
        for metric in metrics
        if metric.class_name == "AgainstFloor"
    )
    assert hides == other == (seen == "mask")
    floor = FloorDifference(1, (1,), hides, [b"milk", b"tea"])
    user = tuple(np.array([item], object) for item in (b"milk", b"milk", b"milk"))
    values = floor.extract_output(floor.add_input(floor.create_accumulator(), user))
    assert values[:4] == (recall, recall, 1.0, 1.0 - recall)
    repeats = RepeatCount()
    assert repeats.extract_output(repeats.add_input(0, user)) == (1.0,)


def test_repeats_are_items_that_the_model_knows(tmp_path):
    """As in the report of the library; the Evaluator says where the vocabulary is."""
    from pipeline.evaluation.floor_metrics import RepeatCount
    from pipeline.evaluation.gate import eval_config, fill_items

    (tmp_path / "items").write_bytes(b"tea\nm\xfcsli\n")
    config = eval_config(CONFIG, FEATURES)
    fill_items(config, {"all": ["tea"], "last": ["tea"]}, str(tmp_path / "items"))
    (values,) = (
        json.loads(metric.config)
        for spec in config.metrics_specs
        for metric in spec.metrics
        if metric.class_name == "Repeats"
    )
    repeats = RepeatCount(values["items_file"])
    count = repeats.create_accumulator()
    for item in (b"tea", b"m\xfcsli", b"milk"):
        items = np.array([item], object)
        count = repeats.add_input(count, (items, items, np.array([b"tea", item], object)))
    assert repeats.extract_output(count) == (2.0,)


def test_a_single_user_leaves_everything_open():
    from pipeline.evaluation.floors import Comparison

    row = Comparison("popularity", COLD, "ndcg@5", 0.0, 1.0, -1.0, float("nan"))
    assert row.interval == (-1, 1) and not row.is_below
    assert row.sentence() == (
        "cold users are served below popularity, all events: ndcg@5 is 0.0000 against 1.0000; "
        "a single user gives no interval, so this may be chance"
    )


def test_an_interval_stays_within_0_and_1():
    from pipeline.evaluation.slices import interval

    assert interval({"a": 0.01, "a_error": 0.1}, "a") == pytest.approx((0, 0.206), abs=1e-4)
    assert interval({"a": 1.0, "a_error": 0.0}, "a") == (1, 1)
    assert np.isnan(interval({"a": 0.5, "a_error": float("nan")}, "a")).all()


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("town", "slices are user features of the dataset: .*'job'"),
        ("age", "a number, a date, or a feature with a prefix"),
        ("zip", "a number, a date, or a feature with a prefix has too many values"),
        ("birth", "a number, a date, or a feature with a prefix has too many values"),
        ("pair", "user records do not hold a cross"),
    ],
)
def test_a_slice_that_cannot_be_made_is_refused(name, rule):
    from pipeline.evaluation.gate import eval_config

    birth = Feature("birth", "date", as_of="2024-04-30")
    features = [*FEATURES, birth, Feature("pair", "cross", of=("job", "zip"))]
    evaluate = dataclasses.replace(CONFIG.evaluate, slices=("job", name))
    with pytest.raises(InputError, match=rf"evaluate.slices=\['job', '{name}'\].*: {rule}"):
        eval_config(dataclasses.replace(CONFIG, evaluate=evaluate), features)
