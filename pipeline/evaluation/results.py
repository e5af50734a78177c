"""Reads the Evaluator's results: metrics by segment and slice, and the bounds that were missed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import OVERALL, SEGMENT
from pipeline.evaluation import floors
from pipeline.evaluation.slices import SEGMENTS, USERS, Slice

# The candidate has a name only if there is a baseline model too.
_CANDIDATE = ("", tfma.CANDIDATE_KEY)
_BASELINE = (tfma.BASELINE_KEY,)


def read_metrics(evaluation_uri: str) -> dict[str, dict[str, float]]:
    """Returns the metrics of the candidate, the model that was evaluated.

    Args:
        evaluation_uri: folder of the Evaluator's artifact `evaluation`.

    Returns:
        `{segment: {metric: value}}`. Segments are `warm`, `cold` and `overall`. Metrics are named
        as in `recall@20`, their standard errors as in `slices.error_of`, and there is `users`.

    Raises:
        InputError: the folder holds no evaluation.
    """
    return floors.model_rows(_by_segment(evaluation_uri, _CANDIDATE))


def read_floors(evaluation_uri: str) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the metrics of the floors: `{floor: {segment: {metric: value}}}`, see `read_metrics`.

    Raises:
        InputError: the folder holds no evaluation.
    """
    return floors.floor_rows(_by_segment(evaluation_uri, _CANDIDATE))


def read_comparisons(evaluation_uri: str) -> list[floors.Comparison]:
    """Returns the candidate's NDCG at K = `evaluate.k` next to that of every floor, by segment.

    Raises:
        InputError: the folder holds no evaluation.
    """
    return floors.comparisons(_by_segment(evaluation_uri, _CANDIDATE))


def read_baseline(evaluation_uri: str) -> dict[str, dict[str, float]]:
    """Returns the metrics of the baseline model, as `read_metrics` does; empty without one."""
    rows = floors.model_rows(_by_segment(evaluation_uri, _BASELINE))
    return rows if any(set(metrics) - {USERS} for metrics in rows.values()) else {}


def read_slices(evaluation_uri: str) -> list[Slice]:
    """Returns the candidate's metrics for each value of the features in `evaluate.slices`.

    The list is sorted by feature, then by the number of users, largest first. The segments of a
    value are in the order of `SEGMENTS`.

    Raises:
        InputError: the folder holds no evaluation.
    """
    slices, users = [], {}
    for key, metrics in _rows(evaluation_uri, _CANDIDATE):
        segment = key.pop(SEGMENT, OVERALL)
        for feature, value in key.items():
            slices.append(Slice(feature, value, segment, metrics))
            if segment == OVERALL:
                users[feature, value] = metrics[USERS]

    def order(row: Slice) -> tuple[str, float, str, int]:
        count = users[row.feature, row.value]
        return row.feature, -count, row.value, SEGMENTS.index(row.segment)

    return sorted(slices, key=order)


def read_failures(evaluation_uri: str) -> list[str]:
    """Returns why the Evaluator did not bless a model.

    Returns:
        One line per missed bound, with the value and the bound, or with the values of both models;
        none if the model was blessed.

    Raises:
        InputError: the folder holds no evaluation.
    """
    result = _load(tfma.load_validation_result, evaluation_uri)
    lines = []
    for validation in result.metric_validations_per_slice:
        segment = _key(validation.slice_key).get(SEGMENT, OVERALL)
        for failure in validation.failures:
            name = failure.metric_key.name
            if floors.is_of_floor(name):
                lines.append(_below_floor(evaluation_uri, segment, name))
                continue
            if failure.metric_threshold.HasField("change_threshold"):
                lines.append(_drop(evaluation_uri, segment, name, failure.metric_threshold))
                continue
            bound = failure.metric_threshold.value_threshold.lower_bound.value
            value = failure.metric_value.double_value.value
            lines.append(f"{segment} {name} = {value:.4g} is below its bound {bound:g}")
    lines += [
        f"{dict(spec.feature_values).get(SEGMENT, OVERALL)}: no such users in the test split"
        for spec in result.missing_slices
    ]
    if not lines and not result.validation_ok:
        lines.append("no gated metric was computed")
    return lines


def _below_floor(evaluation_uri: str, segment: str, name: str) -> str:
    """Returns the line of a floor's missed bound, by the name of the bound's metric."""
    (line,) = (
        comparison.sentence()
        for comparison in read_comparisons(evaluation_uri)
        if comparison.segment == segment and comparison.bound == name
    )
    return f"{line} (evaluate.floors=refuse)"


def _drop(
    evaluation_uri: str, segment: str, name: str, threshold: config_pb2.MetricThreshold
) -> str:
    value = read_metrics(evaluation_uri)[segment][name]
    before = read_baseline(evaluation_uri)[segment][name]
    line = f"{segment} {name} = {value:.4g}, and the last blessed model reaches {before:.4g}"
    if not before:
        return f"{line}: a drop from 0 has no size; set evaluate.max_drop to 1 for one run"
    max_drop = -threshold.change_threshold.relative.value
    return f"{line}: {1 - value / before:.1%} less is more than evaluate.max_drop={max_drop:g}"


def _by_segment(uri: str, models: Sequence[str]) -> dict[str, dict[str, float]]:
    rows = ((key, metrics) for key, metrics in _rows(uri, models) if not set(key) - {SEGMENT})
    return {key.get(SEGMENT, OVERALL): metrics for key, metrics in rows}


def _rows(uri: str, models: Sequence[str]) -> Iterator[tuple[dict[str, str], dict[str, float]]]:
    """Yields `({column: value}, {metric: value})` of every slice."""
    rows = list(_load(lambda folder: list(tfma.load_metrics(folder)), uri))
    if not rows:
        raise _no_evaluation(uri)
    for row in rows:
        yield (
            _key(row.slice_key),
            {
                metric.key.name: metric.value.double_value.value
                for metric in row.metric_keys_and_values
                # The number of users belongs to no model.
                if not metric.key.is_diff
                and (metric.key.model_name in models or metric.key.name == USERS)
            },
        )


def _key(slice_key: Any) -> dict[str, str]:  # TFMA's SliceKey, which has no types
    return {
        single.column: _text(getattr(single, single.WhichOneof("kind")))
        for single in slice_key.single_slice_keys
    }


def _text(value: bytes | float) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _load(load: Callable[[str], Any], uri: str) -> Any:  # a result of TFMA, which has no types
    if not tf.io.gfile.isdir(uri):
        raise _no_evaluation(uri)
    try:
        return load(uri)
    except (OSError, ValueError) as error:
        raise _no_evaluation(uri) from error


def _no_evaluation(uri: str) -> InputError:
    return InputError(uri, "the folder must hold an evaluation", "Run the pipeline again.")
