"""Defines the component that blesses an export if a server can load and call it."""

import json
import logging

import tensorflow as tf
import tensorflow_transform as tft
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils, path_utils

from cmclrec_tf import schema
from cmclrec_tf.data import vocabulary
from pipeline.components import serving_checks
from pipeline.evaluation.serving_verdict import write_verdict
from pipeline.storage import staging
from pipeline.storage.records import parse, read

USERS_PER_SEGMENT = 32


@component
def ServingValidator(  # noqa: N802
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    features: Parameter[str],
    list_length: Parameter[int],
    hides_history: Parameter[int],
    sources: Parameter[str],
) -> None:
    """Blesses an export if all its signatures return what they should.

    The export is loaded with TensorFlow's C API, as in a server. All signatures are called for
    users of the test split, and `serving_default` is compared with `cold`. A broken export does not
    fail the pipeline: it is not blessed, and the reasons are logged and stored with the verdict.

    Args:
        model: the export.
        examples: raw user records with a test split.
        transform_graph: the transform graph, which holds the item vocabulary.
        blessing: the verdict, in the format that Pusher reads.
        features: the user features, `schema.Schema.to_dict()["features"]` as JSON.
        list_length: length K of the lists that the export was made for.
        hides_history: 1 if items of the history must not come back, else 0.
        sources: digest of the code of this component, used only in the cache key.
    """
    items = tft.TFTransformOutput(transform_graph.uri).vocabulary_file_by_name(schema.ITEMS)
    contract = serving_checks.ExportContract(
        features=schema.Schema(tuple(schema.Feature(**v) for v in json.loads(features))).inputs,
        items=frozenset(t.encode("utf-8", "surrogateescape") for t in vocabulary.read(items)),
        list_length=list_length,
        hides_history=bool(hides_history),
    )
    with staging.local_copy(path_utils.serving_model_path(model.uri)) as folder:
        reasons = serving_checks.check_export(folder, _sample(examples), contract)
    for reason in reasons:
        logging.warning("Not fit to serve: %s", reason)
    write_verdict(blessing, reasons)


def _sample(examples):
    """Returns the first warm and the first cold user records of the test split."""
    split = artifact_utils.get_split_uri([examples], schema.TEST)
    files = sorted(tf.io.gfile.glob(io_utils.all_files_pattern(split)))
    missing = {name.encode(): USERS_PER_SEGMENT for name in (schema.WARM, schema.COLD)}
    sample = []
    for record in read(files):
        (segment,) = parse(record)[schema.SEGMENT]
        if missing.get(segment):
            missing[segment] -= 1
            sample.append(record)
        if not any(missing.values()):
            break
    return sample
