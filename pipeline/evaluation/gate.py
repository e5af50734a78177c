"""The gate: what TensorFlow Model Analysis computes, by segment, and what blesses a model."""

import json

import tensorflow_model_analysis as tfma

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, SEGMENT, TARGET, WARM
from pipeline.evaluation import ranking_metrics
from pipeline.evaluation.slices import USERS
from serving.contract import SERVING_DEFAULT


def eval_config(config: Config, features=(), sources=""):
    """What to compute and what a model must reach to be blessed.

    Args:
        config: `evaluate.ks` gives the cuts, `evaluate.slices` the features whose values are
            reported one by one, `evaluate.min_*` and `evaluate.max_drop` the bounds.
        features: the dataset's `schema.Feature`s.
        sources: digest of the code that computes the metrics, for the cache key alone.

    Returns:
        `tfma.EvalConfig` for raw user records: Recall@K, NDCG@K, with their standard errors, and
        coverage@K for overall, warm and cold, and for the same of the users of each value of a
        slice. Warm users are gated on NDCG, cold users on NDCG and coverage; where the Evaluator
        has a baseline, both also on how far NDCG falls below the baseline's.

    Raises:
        InputError: a cut beyond the exported list's length, or a slice that cannot be made.
    """
    wanted = config.evaluate
    _check_slices(wanted.slices, features)
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
            _metric(ranking_metrics.RecallAtK, f"recall@{k}", k, {}, sources=sources),
            _metric(
                ranking_metrics.NDCGAtK,
                f"ndcg@{k}",
                k,
                {WARM: wanted.min_warm_ndcg, COLD: wanted.min_cold_ndcg} if gated else {},
                max_drop=wanted.max_drop,
                sources=sources,
            ),
            _metric(
                ranking_metrics.CoverageAtK,
                f"coverage@{k}",
                k,
                {COLD: wanted.min_cold_coverage} if gated else {},
                sources=sources,
            ),
        ]
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                model_type="tf_generic", signature_name=SERVING_DEFAULT, label_key=TARGET
            )
        ],
        slicing_specs=[
            tfma.SlicingSpec(feature_keys=[*sliced, *segment])
            for sliced in [(), *((name,) for name in wanted.slices)]
            for segment in [(), (SEGMENT,)]
        ],
        metrics_specs=[tfma.MetricsSpec(metrics=specs)],
    )


def _check_slices(names, features):
    by_name = {feature.name: feature for feature in features}
    for name in names:
        feature = by_name.get(name)
        if feature is None:
            rule = f"slices are user features of the dataset: {sorted(by_name)}"
        elif feature.is_numeric or feature.prefix:
            # A record holds the number, or the whole string: nearly every user a value of its own.
            rule = "a slice is a value, and a numeric feature or one with a prefix has too many"
        else:
            continue
        raise InputError(f"evaluate.slices={list(names)}, {name!r}", rule, "Correct the config.")


def _metric(metric, name, k, bounds, max_drop=1.0, sources=""):
    return tfma.MetricConfig(
        class_name=metric.__name__,
        module=metric.__module__,
        config=json.dumps({"k": k, "name": name, "sources": sources}),
        per_slice_thresholds=[
            tfma.PerSliceMetricThreshold(
                slicing_specs=[tfma.SlicingSpec(feature_values={SEGMENT: segment})],
                threshold=_threshold(bound, max_drop),
            )
            for segment, bound in bounds.items()
        ],
    )


def _threshold(bound, max_drop):
    change = tfma.GenericChangeThreshold(
        direction=tfma.MetricDirection.HIGHER_IS_BETTER, relative={"value": -max_drop}
    )
    return tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": bound}),
        change_threshold=change if max_drop < 1 else None,
    )
