"""The component that writes a model card beside every trained model, blessed or not."""

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
from pipeline.components.example_gen import user_counts
from pipeline.components.population import summary, users_by_split
from pipeline.components.serving_validator import failures
from pipeline.evaluation import card_text
from pipeline.evaluation.results import read_failures, read_metrics, read_slices
from pipeline.transforms import counters
from pipeline.tuner import chosen

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
    """Writes `card_text.md`, `card_text.html` and the plot of both.

    Args:
        examples: raw user records, with the counts of users.
        transform_graph: holds the vocabularies.
        evaluation: of the Evaluator.
        infra_blessing: of ServingValidator, with its reasons.
        card: the folder that is written.
        dataset: JSON of the dataset's name, origin and terms.
        config: JSON of the `Config` of the run.
        features: the user features, JSON of `schema.Schema.to_dict()["features"]`.
        sources: digest of the code that writes, for the cache key alone.
        tuned: what the Tuner chose, which the Trainer took, or None.
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
        config=Config.from_dict(json.loads(config)).changed(chosen(tuned.uri) if tuned else {}),
        rows=read_metrics(evaluation.uri),
        slices=tuple(read_slices(evaluation.uri)),
        failures=(*read_failures(evaluation.uri), *failures(infra_blessing.uri)),
        versions={name: importlib.metadata.version(name) for name in LIBRARIES},
        made=f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
    )
    text = card_text.markdown(facts)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, card_text.PLOT)
        card_text.draw(facts, path)
        with open(path, "rb") as file:
            plot = file.read()
        io_utils.copy_file(path, os.path.join(card.uri, card_text.PLOT))
    io_utils.write_string_file(os.path.join(card.uri, MARKDOWN), text)
    io_utils.write_string_file(os.path.join(card.uri, HTML), card_text.page(text, plot))


def _fields(features, counts, tokens):
    """`card_text.Field` of each user feature.

    Args:
        features: tuple of `schema.Feature`.
        counts: of `UserRecords`.
        tokens: function of a vocabulary's name that gives its tokens.
    """
    train = max(users_by_split(counts)[schema.TRAIN], 1)
    for feature in features:
        known = counts.get(counters.valued(feature.name), 0) / train
        values = None if feature.is_numeric else len(tokens(feature.name))
        yield card_text.Field(feature.name, feature.kind, known, values)
