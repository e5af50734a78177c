"""Defines the component that writes a model card for every trained model, blessed or not."""

import datetime
import importlib.metadata
import json
import os
import tempfile

import tensorflow_transform as tft
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.types.experimental import simple_artifacts
from tfx.utils import io_utils

from cmclrec_tf import schema
from cmclrec_tf.config import Config
from cmclrec_tf.data import vocabulary
from pipeline.components.population import summary, user_counts, users_by_split
from pipeline.configs import SUMMARY
from pipeline.evaluation import card_text
from pipeline.evaluation.results import (
    read_comparisons,
    read_failures,
    read_floors,
    read_metrics,
    read_slices,
)
from pipeline.evaluation.serving_verdict import read_serving_failures
from pipeline.metadata.settings import tuned_settings
from pipeline.transforms import counters

MARKDOWN, HTML = "model_card.md", "model_card.html"
LIBRARIES = ("tensorflow", "keras", "tfx", "cmclrec-tf")


@component
def ModelCard(  # noqa: N802
    examples: InputArtifact[standard_artifacts.Examples],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    infra_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    card: OutputArtifact[simple_artifacts.File],
    dataset: Parameter[str],
    config: Parameter[str],
    features: Parameter[str],
    sources: Parameter[str],
    tuned: InputArtifact[standard_artifacts.HyperParameters] = None,
) -> None:
    """Writes `model_card.md`, `model_card.html`, the plot that both show, and `summary.txt`.

    Args:
        examples: raw user records, with the counts of users.
        transform_graph: the transform graph, which holds the vocabularies.
        evaluation: evaluation by the Evaluator.
        infra_blessing: verdict of ServingValidator, with its reasons.
        card: the folder that is written.
        dataset: name, origin and terms of the dataset, as JSON.
        config: the `Config` of the run, as JSON.
        features: the user features, `schema.Schema.to_dict()["features"]` as JSON.
        sources: digest of the code of this component, used only in the cache key.
        tuned: settings that the Tuner chose for the Trainer, if it ran.
    """
    transformed = tft.TFTransformOutput(transform_graph.uri)

    def tokens(name):
        return vocabulary.read(transformed.vocabulary_file_by_name(name))

    counts = user_counts(examples)
    described = tuple(schema.Feature(**values) for values in json.loads(features))
    facts = card_text.Facts(
        **json.loads(dataset),
        population=summary(counts),
        fields=tuple(_fields(described, counts, tokens)),
        items=len(tokens(schema.ITEMS)),
        config=_config(config, tuned),
        rows=read_metrics(evaluation.uri),
        floors=read_floors(evaluation.uri),
        comparisons=tuple(read_comparisons(evaluation.uri)),
        slices=tuple(read_slices(evaluation.uri)),
        failures=(*read_failures(evaluation.uri), *read_serving_failures(infra_blessing.uri)),
        versions={name: importlib.metadata.version(name) for name in LIBRARIES},
        date=f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
    )
    text = card_text.markdown(facts)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, card_text.PLOT)
        card_text.draw(facts, path)
        with open(path, "rb") as file:
            plot = file.read()
        io_utils.copy_file(path, os.path.join(card.uri, card_text.PLOT))
    io_utils.write_string_file(os.path.join(card.uri, MARKDOWN), text)
    io_utils.write_string_file(os.path.join(card.uri, SUMMARY), card_text.summary(facts))
    io_utils.write_string_file(os.path.join(card.uri, HTML), card_text.page(text, plot))


def _config(config, tuned):
    """Returns the config of the run; this process need not know its backbone."""
    return Config.of_run(json.loads(config), tuned_settings(tuned.uri) if tuned else {})


def _fields(features, counts, tokens):
    """Yields a `card_text.Field` for each user feature.

    Args:
        features: the user features.
        counts: the counts of `UserRecords`.
        tokens: function that returns the tokens of a vocabulary by its name.
    """
    train = max(users_by_split(counts)[schema.TRAIN], 1)
    # User records do not hold crosses.
    for feature in schema.Schema(tuple(features)).inputs:
        share = counts.get(counters.users_with(feature.name), 0) / train
        values = None if feature.is_numeric else len(tokens(feature.name))
        yield card_text.Field(feature.name, feature.kind, share, values)
