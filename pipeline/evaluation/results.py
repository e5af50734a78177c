"""What an Evaluator left: numbers by segment and slice, and why a model was not blessed."""

import tensorflow as tf
import tensorflow_model_analysis as tfma

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import OVERALL, SEGMENT
from pipeline.evaluation.slices import SEGMENTS, USERS, Slice

# Beside a baseline a candidate goes by its name, and alone by none.
_CANDIDATE = ("", tfma.CANDIDATE_KEY)
_BASELINE = (tfma.BASELINE_KEY,)


def read_metrics(evaluation_uri):
    """What an Evaluator computed of the candidate.

    Args:
        evaluation_uri: its `evaluation` artifact's folder.

    Returns:
        `{segment: {metric: value}}`, segments `warm`, `cold` and `overall`, metrics named as in
        `recall@20`, their standard errors as `error_of` names them, and `users`.

    Raises:
        InputError: there is no evaluation in the folder.
    """
    return _segments(evaluation_uri, _CANDIDATE)


def read_baseline(evaluation_uri):
    """The same of the model that the candidate was compared with; empty without one."""
    found = _segments(evaluation_uri, _BASELINE)
    return found if any(set(metrics) - {USERS} for metrics in found.values()) else {}


def read_slices(evaluation_uri):
    """What an Evaluator computed for the values of the user features in `evaluate.slices`.

    Returns:
        List of `Slice`, feature by feature, the value of the most users first, and of a value the
        segments in the order of `SEGMENTS`.

    Raises:
        InputError: there is no evaluation in the folder.
    """
    found, users = [], {}
    for key, metrics in _rows(evaluation_uri, _CANDIDATE):
        segment = key.pop(SEGMENT, OVERALL)
        for feature, value in key.items():
            found.append(Slice(feature, value, segment, metrics))
            if segment == OVERALL:
                users[feature, value] = metrics[USERS]

    def place(row):
        at = SEGMENTS.index(row.segment)
        return row.feature, -users[row.feature, row.value], row.value, at

    return sorted(found, key=place)


def read_failures(evaluation_uri):
    """Why an Evaluator did not bless a model.

    Returns:
        One line per missed bound, with the value and the bound, or the values of both models; none
        when the model was blessed.

    Raises:
        InputError: there is no validation in the folder.
    """
    result = _loaded(tfma.load_validation_result, evaluation_uri)
    lines = []
    for validation in result.metric_validations_per_slice:
        segment = _key(validation.slice_key).get(SEGMENT, OVERALL)
        for failure in validation.failures:
            name = failure.metric_key.name
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


def _drop(evaluation_uri, segment, name, threshold):
    value = read_metrics(evaluation_uri)[segment][name]
    before = read_baseline(evaluation_uri)[segment][name]
    said = f"{segment} {name} = {value:.4g}, and the last blessed model reaches {before:.4g}"
    if not before:
        return f"{said}: no share of it can be told; set evaluate.max_drop to 1 for once"
    most = -threshold.change_threshold.relative.value
    return f"{said}: {1 - value / before:.1%} less is more than evaluate.max_drop={most:g}"


def _segments(uri, models):
    rows = ((key, metrics) for key, metrics in _rows(uri, models) if not set(key) - {SEGMENT})
    return {key.get(SEGMENT, OVERALL): metrics for key, metrics in rows}


def _rows(uri, models):
    """`({column: value}, {metric: value})` of every slice."""
    read = list(_loaded(lambda folder: list(tfma.load_metrics(folder)), uri))
    if not read:
        raise _no_evaluation(uri)
    for row in read:
        yield (
            _key(row.slice_key),
            {
                kept.key.name: kept.value.double_value.value
                for kept in row.metric_keys_and_values
                # The number of users is nobody's.
                if not kept.key.is_diff
                and (kept.key.model_name in models or kept.key.name == USERS)
            },
        )


def _key(slice_key):
    return {
        single.column: _text(getattr(single, single.WhichOneof("kind")))
        for single in slice_key.single_slice_keys
    }


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _loaded(load, uri):
    if not tf.io.gfile.isdir(uri):
        raise _no_evaluation(uri)
    try:
        return load(uri)
    except (OSError, ValueError) as error:
        raise _no_evaluation(uri) from error


def _no_evaluation(uri):
    return InputError(uri, "the folder must hold an evaluation", "Run the pipeline again.")
