"""The gate: what TensorFlow Model Analysis computes, by segment, and what blesses a model."""

import json
import math

import tensorflow as tf
import tensorflow_model_analysis as tfma

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, OVERALL, SEGMENT, TARGET, WARM
from pipeline import ranking_metrics

SIGNATURE = "serving_default"
USERS = "users"


def eval_config(config: Config, sources=""):
    """What to compute and what a model must reach to be blessed.

    Args:
        config: `evaluate.ks` gives the cuts, `evaluate.min_*` the bounds.
        sources: digest of the code that computes the metrics, for the cache key alone.

    Returns:
        `tfma.EvalConfig` for raw user records: Recall@K, NDCG@K and coverage@K for overall, warm
        and cold; warm users are gated on NDCG, cold users on NDCG and coverage.

    Raises:
        InputError: a cut beyond the exported list's length.
    """
    wanted = config.evaluate
    if max(wanted.ks) > config.serve.list_length:
        raise InputError(
            f"evaluate.ks={list(wanted.ks)}",
            f"no cut can exceed serve.list_length={config.serve.list_length}",
            "Lower the cuts or export longer lists.",
        )
    specs = [tfma.MetricConfig(class_name="ExampleCount", config=json.dumps({"name": USERS}))]
    for k in wanted.ks:
        gated = k == wanted.k
        specs += [
            _metric(ranking_metrics.RecallAtK, f"recall@{k}", k, {}, sources),
            _metric(
                ranking_metrics.NDCGAtK,
                f"ndcg@{k}",
                k,
                {WARM: wanted.min_warm_ndcg, COLD: wanted.min_cold_ndcg} if gated else {},
                sources,
            ),
            _metric(
                ranking_metrics.CoverageAtK,
                f"coverage@{k}",
                k,
                {COLD: wanted.min_cold_coverage} if gated else {},
                sources,
            ),
        ]
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(model_type="tf_generic", signature_name=SIGNATURE, label_key=TARGET)
        ],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=[SEGMENT])],
        metrics_specs=[tfma.MetricsSpec(metrics=specs)],
    )


def _metric(metric, name, k, bounds, sources):
    return tfma.MetricConfig(
        class_name=metric.__name__,
        module=metric.__module__,
        config=json.dumps({"k": k, "name": name, "sources": sources}),
        per_slice_thresholds=[
            tfma.PerSliceMetricThreshold(
                slicing_specs=[tfma.SlicingSpec(feature_values={SEGMENT: segment})],
                threshold=tfma.MetricThreshold(
                    value_threshold=tfma.GenericValueThreshold(lower_bound={"value": bound})
                ),
            )
            for segment, bound in bounds.items()
        ],
    )


def read_metrics(evaluation_uri):
    """What an Evaluator computed.

    Args:
        evaluation_uri: its `evaluation` artifact's folder.

    Returns:
        `{segment: {metric: value}}`, segments `warm`, `cold` and `overall`, metrics named as in
        `recall@20`, and `users`.

    Raises:
        InputError: there is no evaluation in the folder.
    """
    result = _loaded(tfma.load_eval_result, evaluation_uri)
    if not result.slicing_metrics:
        raise _no_evaluation(evaluation_uri)
    rows = {}
    for slice_key, outputs in result.slicing_metrics:
        named = outputs[""][""]
        rows[dict(slice_key).get(SEGMENT, OVERALL)] = {
            name: _number(value) for name, value in named.items()
        }
    return rows


def read_failures(evaluation_uri):
    """Why an Evaluator did not bless a model.

    Returns:
        One line per missed bound, with the value and the bound; none when the model was blessed.

    Raises:
        InputError: there is no validation in the folder.
    """
    result = _loaded(tfma.load_validation_result, evaluation_uri)
    lines = []
    for validation in result.metric_validations_per_slice:
        segment = _segment(validation.slice_key)
        for failure in validation.failures:
            bound = failure.metric_threshold.value_threshold.lower_bound.value
            value = failure.metric_value.double_value.value
            name = failure.metric_key.name
            lines.append(f"{segment} {name} = {value:.4g} is below its bound {bound:g}")
    lines += [
        f"{dict(spec.feature_values).get(SEGMENT, OVERALL)}: no such users in the test split"
        for spec in result.missing_slices
    ]
    if not lines and not result.validation_ok:
        lines.append("no gated metric was computed")
    return lines


def _segment(slice_key):
    for single in slice_key.single_slice_keys:
        if single.column == SEGMENT:
            return single.bytes_value.decode()
    return OVERALL


def _number(value):
    return float(value.get("doubleValue", math.nan))


def _loaded(load, uri):
    if not tf.io.gfile.isdir(uri):
        raise _no_evaluation(uri)
    try:
        return load(uri)
    except (OSError, ValueError) as error:
        raise _no_evaluation(uri) from error


def _no_evaluation(uri):
    return InputError(uri, "the folder must hold an evaluation", "Run the pipeline again.")
