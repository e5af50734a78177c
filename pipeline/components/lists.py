"""The component that turns a bulk inference into a table of recommendations."""

import os

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.types.experimental import simple_artifacts

from cmclrec_tf.schema import USER_ID
from pipeline.storage.records import parse

COMPONENT = "Lists"
FILES = "lists"

# Ids are bytes, as in the raw files: nothing says that they are UTF-8.
COLUMNS = pa.schema(
    [
        ("user_id", pa.binary()),
        ("is_cold", pa.bool_()),
        ("item_ids", pa.list_(pa.binary())),
        ("scores", pa.list_(pa.float32())),
    ]
)


@component(use_beam=True)
def Lists(  # noqa: N802
    inference: InputArtifact[standard_artifacts.InferenceResult],
    lists: OutputArtifact[simple_artifacts.File],
    k: Parameter[int],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes Parquet files with a row a user: user_id, is_cold, item_ids, scores.

    Args:
        inference: PredictionLogs of `serving_default`, of a BulkInferrer.
        lists: the folder that is written.
        k: items of a list that are kept.
        beam_pipeline: set by TFX.
    """
    with beam_pipeline as pipeline:
        _ = (
            pipeline
            | "Read" >> beam.io.ReadFromTFRecord(os.path.join(inference.uri, "*.gz"))
            | "Row" >> beam.Map(row, k)
            | "Write"
            >> beam.io.WriteToParquet(
                os.path.join(lists.uri, FILES), COLUMNS, file_name_suffix=".parquet"
            )
        )


def row(serialized, k):
    """A row of `COLUMNS` of a serialized PredictionLog of one user."""
    log = prediction_log_pb2.PredictionLog.FromString(serialized).predict_log
    (request,) = log.request.inputs.values()
    answer = {name: tf.make_ndarray(value) for name, value in log.response.outputs.items()}
    items = [item for item in answer["item_ids"].reshape(-1)[:k] if item]
    return {
        "user_id": parse(request.string_val[0])[USER_ID][0],
        "is_cold": bool(answer["is_cold"].reshape(-1)[0]),
        "item_ids": items,
        "scores": answer["scores"].reshape(-1)[: len(items)].tolist(),
    }
