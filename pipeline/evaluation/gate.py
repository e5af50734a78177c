"""Configures TensorFlow Model Analysis: metrics by segment, and the bounds for a blessing."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow_model_analysis.proto import config_pb2

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, OVERALL, SEGMENT, TARGET, WARM, Feature
from pipeline.evaluation import floor_metrics, ranking_metrics
from pipeline.evaluation.floors import FLOORS, REFUSE
from pipeline.evaluation.slices import SEGMENTS, USERS
from serving.contract import SERVING_DEFAULT


def eval_config(
    config: Config, features: Sequence[Feature] = (), sources: str = ""
) -> config_pb2.EvalConfig:
    """Returns what the Evaluator computes, and what a model must reach to be blessed.

    The metrics are Recall@K and NDCG@K with their standard errors, and coverage@K. Each is computed
    for the warm, cold and all users, and for the users of each value of a feature in
    `evaluate.slices`. At K = `evaluate.k`, NDCG of warm users, and NDCG and coverage of cold users,
    have a lower bound. If a model was blessed before, NDCG of either segment must not be below its
    NDCG by more than the share `evaluate.max_drop`. The floors are evaluated as well; with
    `evaluate.floors: refuse`, no segment may be below one of them, see `floor_metrics`.

    Args:
        config: the config of the run; `evaluate` holds each K, the slices and the bounds.
        features: the dataset's user features.
        sources: digest of the code that computes the metrics, used for nothing but the cache key.

    Raises:
        InputError: a K is above the length of the exported lists, or a feature cannot be sliced.
    """
    evaluate = config.evaluate
    _check_slices(evaluate.slices, features)
    if max(evaluate.ks) > config.serve.list_length:
        raise InputError(
            f"evaluate.ks={list(evaluate.ks)}",
            f"no K can exceed serve.list_length={config.serve.list_length}",
            "Lower evaluate.ks or export longer lists.",
        )
    # One example is one user.
    count = json.dumps({"name": USERS})
    metrics = [config_pb2.MetricConfig(class_name="ExampleCount", config=count)]
    for k in evaluate.ks:
        is_gated = k == evaluate.k
        metrics += [
            _metric(ranking_metrics.RecallAtK, f"recall@{k}", k, {}, sources=sources),
            _metric(
                ranking_metrics.NDCGAtK,
                f"ndcg@{k}",
                k,
                {WARM: evaluate.min_warm_ndcg, COLD: evaluate.min_cold_ndcg} if is_gated else {},
                max_drop=evaluate.max_drop,
                sources=sources,
            ),
            _metric(
                ranking_metrics.CoverageAtK,
                f"coverage@{k}",
                k,
                {COLD: evaluate.min_cold_coverage} if is_gated else {},
                sources=sources,
            ),
        ]
    metrics += [_against_floor(floor, config, sources) for floor in FLOORS]
    metrics.append(_metric_config(floor_metrics.Repeats, {"sources": sources}))
    return config_pb2.EvalConfig(
        model_specs=[
            config_pb2.ModelSpec(
                model_type="tf_generic", signature_name=SERVING_DEFAULT, label_key=TARGET
            )
        ],
        slicing_specs=[
            # No key stands for all users.
            config_pb2.SlicingSpec(feature_keys=[*feature_keys, *segment_keys])
            for feature_keys in [(), *((name,) for name in evaluate.slices)]
            for segment_keys in [(), (SEGMENT,)]
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )


def _check_slices(names: Sequence[str], features: Sequence[Feature]) -> None:
    by_name = {feature.name: feature for feature in features}
    for name in names:
        feature = by_name.get(name)
        if feature is None:
            rule = f"slices are user features of the dataset: {sorted(by_name)}"
        elif feature.of:
            rule = "user records do not hold a cross"
        elif feature.is_numeric or feature.prefix:
            # A record holds the raw number, or the whole string: a slice would have few users.
            rule = "a number, a date, or a feature with a prefix has too many values to slice"
        else:
            continue
        raise InputError(f"evaluate.slices={list(names)}, {name!r}", rule, "Correct the config.")


def _metric(
    metric: type,
    name: str,
    k: int,
    bounds: Mapping[str, float],
    max_drop: float = 1.0,
    sources: str = "",
) -> config_pb2.MetricConfig:
    """Returns a metric with a lower bound for each segment in `bounds`.

    A segment with a bound is also compared with the model that was blessed before, unless
    `max_drop` is 1.
    """
    return _metric_config(
        metric,
        {"k": k, "name": name, "sources": sources},
        per_slice_thresholds=[
            config_pb2.PerSliceMetricThreshold(
                slicing_specs=[_segment_spec(segment)],
                threshold=_threshold(bound, max_drop),
            )
            for segment, bound in bounds.items()
        ],
    )


def _metric_config(
    metric: type, settings: Mapping[str, Any], per_slice_thresholds: Sequence[Any] = ()
) -> config_pb2.MetricConfig:
    return config_pb2.MetricConfig(
        class_name=metric.__name__,
        module=metric.__module__,
        config=json.dumps(settings),
        per_slice_thresholds=per_slice_thresholds,
    )


def _against_floor(floor: str, config: Config, sources: str) -> config_pb2.MetricConfig:
    """Returns the metrics of a floor, whose items the Evaluator fills in by `fill_items`."""
    evaluate = config.evaluate
    settings = {
        "floor": floor,
        "k": evaluate.k,
        "ks": evaluate.ks,
        "hides_history": evaluate.hides_history,
        "history": config.data.max_history,
        "sources": sources,
    }
    return _metric_config(
        floor_metrics.AgainstFloor,
        settings,
        per_slice_thresholds=[
            config_pb2.PerSliceMetricThreshold(
                slicing_specs=[_segment_spec(segment)],
                threshold=config_pb2.MetricThreshold(
                    value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": 0.0})
                ),
            )
            for segment in (SEGMENTS if evaluate.floors == REFUSE else ())
        ],
    )


def fill_items(
    config: config_pb2.EvalConfig, most_popular: Mapping[str, Sequence[str]], items_file: str
) -> None:
    """Puts what is known of the items into the metrics that need it.

    Args:
        config: the result of `eval_config`, which is changed.
        most_popular: `{events: items}`, most popular first; events are `all` and `last`.
        items_file: path of the vocabulary of the items.
    """
    for spec in config.metrics_specs:
        for metric in spec.metrics:
            if metric.class_name == floor_metrics.AgainstFloor.__name__:
                values = json.loads(metric.config)
                # A list is full even if all items of the history are left out of it.
                number = max(values["ks"]) + values["history"]
                values["items"] = list(most_popular[FLOORS[values["floor"]]][:number])
                metric.config = json.dumps(values)
            elif metric.class_name == floor_metrics.Repeats.__name__:
                values = json.loads(metric.config)
                metric.config = json.dumps({**values, "items_file": items_file})


def _segment_spec(segment: str) -> config_pb2.SlicingSpec:
    """Returns the slice of a segment; all users have no key."""
    return config_pb2.SlicingSpec(feature_values={} if segment == OVERALL else {SEGMENT: segment})


def _threshold(bound: float, max_drop: float) -> config_pb2.MetricThreshold:
    change = config_pb2.GenericChangeThreshold(
        direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, relative={"value": -max_drop}
    )
    return config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": bound}),
        change_threshold=change if max_drop < 1 else None,
    )
