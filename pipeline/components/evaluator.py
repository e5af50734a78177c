"""Extends TFX's Evaluator so that a model is also compared with popularity."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator import executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.utils import json_utils, proto_utils

from cmclrec_tf.data import shards, vocabulary
from cmclrec_tf.data.prepared import READ_BATCH
from cmclrec_tf.schema import FIRST_ID, HISTORY, ITEMS, TARGET, TRAIN
from pipeline.evaluation.floors import warnings
from pipeline.evaluation.gate import fill_items
from pipeline.evaluation.results import read_comparisons

TRANSFORMED, GRAPH = "transformed_examples", "transform_graph"

# Property of the evaluation's artifact: a line for each floor that a segment is below.
BELOW_FLOORS = "below_floors"


class Executor(executor.Executor):
    """Counts the most popular items of the train split, then evaluates as TFX does."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates and blesses the model; for the arguments see TFX's executor.

        `input_dict` also holds the transformed examples and the transform graph, where the items of
        the train split are counted.
        """
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties[specs.EVAL_CONFIG_KEY], config)
        split = artifact_utils.get_split_uri(input_dict[TRANSFORMED], TRAIN)
        files = tf.io.gfile.glob(os.path.join(split, "*"))
        graph = artifact_utils.get_single_uri(input_dict[GRAPH])
        items_file = tft.TFTransformOutput(graph).vocabulary_file_by_name(ITEMS) or ITEMS
        fill_items(config, most_popular(files, items_file), items_file)
        filled = {specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(config)}
        super().Do(input_dict, output_dict, {**exec_properties, **filled})
        evaluation = artifact_utils.get_single_instance(output_dict[specs.EVALUATION_KEY])
        lines = list(warnings(read_comparisons(evaluation.uri)))
        evaluation.set_string_custom_property(BELOW_FLOORS, "\n".join(lines))
        for line in lines:
            logging.warning(line)


def most_popular(files: Sequence[str], items_file: str) -> dict[str, list[str]]:
    """Returns the items of the train split by their number of events, most popular first.

    The order is that of `cmclrec_tf.baselines.popularity`.

    Args:
        files: the transformed records of the train split.
        items_file: path of the vocabulary of the items.

    Returns:
        `{"all": items, "last": items}`: all events of the records, or the last one of each user.
    """
    items = vocabulary.read(items_file)
    counts = {field: np.zeros(FIRST_ID + len(items), np.int64) for field in (HISTORY, TARGET)}
    spec = {field: tf.io.VarLenFeature(tf.int64) for field in counts}
    for batch in shards.read(files).batch(READ_BATCH):
        for field, ids in tf.io.parse_example(batch, spec).items():
            counts[field] += np.bincount(ids.values.numpy(), minlength=len(counts[field]))

    def ordered(events: npt.NDArray[np.int64]) -> list[str]:
        # Among equal items the one with the smaller id comes first, as in `ranking.top_k`.
        return [items[line] for line in np.argsort(-events[FIRST_ID:], kind="stable")]

    return {"all": ordered(counts[HISTORY] + counts[TARGET]), "last": ordered(counts[TARGET])}


class EvaluatorSpec(component_spec.ComponentSpec):
    """The parameters and artifacts of the component."""

    PARAMETERS = {
        key: specs.EvaluatorSpec.PARAMETERS[key]
        for key in (specs.EVAL_CONFIG_KEY, specs.EXAMPLE_SPLITS_KEY)
    }
    INPUTS = {
        **{
            key: specs.EvaluatorSpec.INPUTS[key]
            for key in (specs.EXAMPLES_KEY, specs.MODEL_KEY, specs.BASELINE_MODEL_KEY)
        },
        TRANSFORMED: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        GRAPH: component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = specs.EvaluatorSpec.OUTPUTS
    TYPE_ANNOTATION = specs.EvaluatorSpec.TYPE_ANNOTATION


class Evaluator(base_beam_component.BaseBeamComponent):
    """TFX's Evaluator with the executor of this module.

    TFX's own class cannot be extended, as its spec has a fixed set of inputs.

    Args:
        examples: raw user records.
        model: the model to evaluate.
        baseline_model: the model that was blessed before; None for none.
        transformed_examples: transformed user records, whose train split has the events to count.
        transform_graph: the transform graph, which holds the vocabulary of the items.
        eval_config: the result of `gate.eval_config`.
        example_splits: names of the splits to evaluate on.
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel | None,
        transformed_examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        eval_config: config_pb2.EvalConfig,
        example_splits: Sequence[str],
    ):
        spec = EvaluatorSpec(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            transformed_examples=transformed_examples,
            transform_graph=transform_graph,
            eval_config=eval_config,
            example_splits=json_utils.dumps(list(example_splits)),
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
        super().__init__(spec=spec)
