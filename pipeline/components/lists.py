"""Defines the component that turns a bulk inference into a table of recommendations."""

import os

import apache_beam as beam
import pyarrow as pa
import tensorflow as tf
from apache_beam.typehints.decorators import no_annotations
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

# Ids are bytes, as in the raw files, since they need not be UTF-8.
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
    """Writes Parquet files with one row per user: user_id, is_cold, item_ids, scores.

    Args:
        inference: PredictionLogs of the signature `serving_default`, from BulkInferrer.
        lists: the folder that is written.
        k: number of items that are kept of each list.
        beam_pipeline: the Beam pipeline, which TFX passes in.
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


@no_annotations
def row(serialized: bytes, k: int) -> dict[str, object]:
    """Returns the row of one user.

    Args:
        serialized: the PredictionLog of the user.
        k: number of items that are kept.

    Returns:
        The values of `COLUMNS` by name.
    """
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
