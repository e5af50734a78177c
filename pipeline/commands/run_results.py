"""Finds the results of a pipeline run."""

import dataclasses
import pathlib
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.evaluator import constants
from tfx.types import artifact_utils

from cmclrec_tf import schema
from cmclrec_tf.config import Config
from cmclrec_tf.data.prepared import PreparedDataset
from pipeline.components.example_gen import COMPONENT
from pipeline.components.population import report
from pipeline.configs import Folders
from pipeline.datasets import DatasetSpec
from pipeline.evaluation.floors import REFUSE, warnings
from pipeline.evaluation.results import (
    read_comparisons,
    read_failures,
    read_floors,
    read_metrics,
    read_slices,
)
from pipeline.evaluation.serving_verdict import read_serving_failures
from pipeline.evaluation.slices import Slice
from pipeline.metadata.outputs import Outputs
from pipeline.metadata.settings import tuned_settings
from pipeline.storage.folders import AnyPath
from pipeline.trainer import prepared_dataset


@dataclasses.dataclass(frozen=True)
class Run:
    """The results of a run, as ML Metadata knows them. Cached components count like the others.

    Attributes:
        spec: the dataset's spec.
        data_dir: folder of the raw files.
        config: the config of the run.
        folders: where the pipeline writes.
        outputs: the artifacts of the components.
        trials: number of trials of the Tuner; 0 without a Tuner.
    """

    spec: DatasetSpec
    data_dir: AnyPath
    config: Config
    folders: Folders
    outputs: Outputs
    trials: int = 0

    @property
    def tuned_settings(self) -> dict[str, Any]:
        """`{path: value}` of the settings that the Tuner selected; empty without a Tuner."""
        if not self.trials:
            return {}
        return tuned_settings(self.outputs.artifact("Tuner", "best_hyperparameters").uri)

    @property
    def evaluation(self) -> str:
        """Folder of the Evaluator's results."""
        return self.outputs.artifact("Evaluator", "evaluation").uri

    @property
    def rows(self) -> dict[str, dict[str, float]]:
        """`{segment: {metric: value}}` of the model on the test split."""
        return read_metrics(self.evaluation)

    @property
    def floors(self) -> dict[str, dict[str, dict[str, float]]]:
        """Metrics of popularity on the test split, `{floor: {segment: {metric: value}}}`."""
        return read_floors(self.evaluation)

    @property
    def warnings(self) -> list[str]:
        """A line for each segment that is served below popularity, unless it is in `reasons`."""
        refuses = self.config.evaluate.floors == REFUSE
        return list(warnings(read_comparisons(self.evaluation), refuses))

    @property
    def slices(self) -> list[Slice]:
        """Metrics of the users of each value of a user feature, see `read_slices`."""
        return read_slices(self.evaluation)

    @property
    def reasons(self) -> list[str]:
        """Why the model was not pushed, one line per reason; empty if it was."""
        if self.pushed_version is not None:
            return []
        verdict = self.outputs.artifact("ServingValidator", "blessing").uri
        return read_failures(self.evaluation) + read_serving_failures(verdict)

    @property
    def baseline(self) -> str | None:
        """Folder of the model that this one was compared with; None without one."""
        blessing = self.outputs.artifact("Evaluator", "blessing")
        key = constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY
        return blessing.get_string_custom_property(key) or None

    @property
    def card(self) -> str:
        """Folder of the model card."""
        return self.outputs.artifact("ModelCard", "card").uri

    @property
    def pushed_version(self) -> pathlib.Path | None:
        """Folder of the pushed version; None if the model was not blessed."""
        artifact = self.outputs.artifact("Pusher", "pushed_model")
        if artifact.get_int_custom_property("pushed") != 1:
            return None
        return pathlib.Path(artifact.get_string_custom_property("pushed_destination"))

    @property
    def users(self) -> str:
        """How many users and rows were kept, and how many were dropped and why."""
        return report(self.outputs.artifact(COMPONENT, "examples"))

    @property
    def validation(self) -> str:
        """Folder of the anomalies that ExampleValidator reported, by split."""
        return self.outputs.artifact("ExampleValidator", "anomalies").uri

    @property
    def anomalies(self) -> int:
        """Number of features of a split that do not conform to the schema."""
        paths = pathlib.Path(self.validation).glob("Split-*/SchemaDiff.pb")
        return sum(
            len(anomalies_pb2.Anomalies.FromString(path.read_bytes()).anomaly_info)
            for path in paths
        )

    @property
    def transformed_examples(self) -> str:
        """Folder of the transformed examples."""
        return self.outputs.artifact("Transform", "transformed_examples").uri

    @property
    def model(self) -> str:
        """Folder of the exported model."""
        return self.outputs.artifact("Trainer", "model").uri

    @property
    def logs(self) -> str:
        """Folder of the TensorBoard logs."""
        return self.outputs.artifact("Trainer", "model_run").uri

    @property
    def test_files(self) -> list[pathlib.Path]:
        """Files of the raw user records of the test split."""
        examples = self.outputs.artifact(COMPONENT, "examples")
        return sorted(pathlib.Path(artifact_utils.get_split_uri([examples], schema.TEST)).glob("*"))

    def dataset(self) -> PreparedDataset:
        """Returns the dataset that the run trained on, with all splits."""
        examples = self.outputs.artifact("Transform", "transformed_examples")
        return prepared_dataset(
            name=self.spec.name,
            features=self.spec.features,
            max_history=self.config.data.max_history,
            transform_graph=self.outputs.artifact("Transform", "transform_graph").uri,
            patterns={
                split: [f"{artifact_utils.get_split_uri([examples], split)}/*"]
                for split in schema.SPLITS
            },
        )
