"""The serving check: no export is pushed that a server could not load and ask."""

import json
import logging
import os

import tensorflow as tf
import tensorflow_transform as tft
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils, path_utils

from cmclrec_tf import schema
from cmclrec_tf.data import vocabulary
from pipeline.components import serving_checks
from pipeline.storage import staging
from pipeline.storage.records import parse, read

# The layout that TFX's own InfraValidator writes.
BLESSED_FILE = "INFRA_BLESSED"
NOT_BLESSED_FILE = "INFRA_NOT_BLESSED"
REASONS_FILE = "REASONS.txt"
BLESSED_PROPERTY = "blessed"

USERS_PER_SEGMENT = 32


@component
def ServingValidator(  # noqa: N802
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    features: Parameter[str],
    list_length: Parameter[int],
    is_blended: Parameter[int],
    sources: Parameter[str],
) -> None:
    """Blesses an export that answers as the contract says.

    Loads it by the C path, asks `warm` and `cold` for real test users and compares with
    `serving_default`. A broken export ends unblessed, with the reasons logged and kept beside the
    verdict; it does not fail the pipeline.

    Args:
        model: the export.
        examples: raw user records with a test split.
        transform_graph: holds the item vocabulary.
        blessing: the verdict, in the layout that Pusher reads.
        features: the user features, JSON of `schema.Schema.to_dict()["features"]`.
        list_length: K asked for at the export.
        is_blended: 1 where `serving_default` blends the warm and the cold way, else 0.
        sources: digest of the code that checks, for the cache key alone.
    """
    items = tft.TFTransformOutput(transform_graph.uri).vocabulary_file_by_name(schema.ITEMS)
    expected = serving_checks.Expected(
        features=tuple(schema.Feature(**values) for values in json.loads(features)),
        items=frozenset(t.encode("utf-8", "surrogateescape") for t in vocabulary.read(items)),
        list_length=list_length,
        is_blended=bool(is_blended),
    )
    with staging.fetched(path_utils.serving_model_path(model.uri)) as folder:
        reasons = serving_checks.check_export(folder, _sample(examples), expected)
    for reason in reasons:
        logging.warning("Not fit to serve: %s", reason)
    name = NOT_BLESSED_FILE if reasons else BLESSED_FILE
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    io_utils.write_string_file(os.path.join(blessing.uri, REASONS_FILE), "\n".join(reasons))
    blessing.set_int_custom_property(BLESSED_PROPERTY, int(not reasons))


def failures(verdict):
    """Why ServingValidator did not bless an export, one line each; none when it did.

    Args:
        verdict: folder of its `blessing` artifact.
    """
    reasons = io_utils.read_string_file(os.path.join(verdict, REASONS_FILE))
    return [f"not fit to serve: {line}" for line in reasons.splitlines()]


def _sample(examples):
    """The first warm and the first cold user records of the test split."""
    split = artifact_utils.get_split_uri([examples], schema.TEST)
    files = sorted(tf.io.gfile.glob(io_utils.all_files_pattern(split)))
    wanted = {name.encode(): USERS_PER_SEGMENT for name in (schema.WARM, schema.COLD)}
    sample = []
    for record in read(files):
        (segment,) = parse(record)[schema.SEGMENT]
        if wanted.get(segment):
            wanted[segment] -= 1
            sample.append(record)
        if not any(wanted.values()):
            break
    return sample
