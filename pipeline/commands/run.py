"""Runs the whole pipeline on this machine and describes the result."""

import dataclasses
import importlib
import pathlib
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.evaluator import constants
from tfx.types import artifact_utils

from cmclrec_tf import schema
from cmclrec_tf.config import Config
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.errors import InputError
from pipeline import configs
from pipeline.components.example_gen import COMPONENT
from pipeline.components.population import summary, user_counts
from pipeline.datasets import DatasetSpec
from pipeline.evaluation.results import read_failures, read_metrics, read_slices
from pipeline.evaluation.serving_verdict import read_serving_failures
from pipeline.evaluation.slices import Slice
from pipeline.metadata.code_digests import CodeDigests
from pipeline.metadata.outputs import Outputs
from pipeline.metadata.settings import tuned_settings
from pipeline.pipeline import create_pipeline
from pipeline.runners import local
from pipeline.storage.folders import AnyPath
from pipeline.trainer import prepared_dataset
from serving import versions


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
    folders: configs.Folders
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
        """One line on how many users were kept, and how many were dropped and why."""
        return summary(user_counts(self.outputs.artifact(COMPONENT, "examples")))

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


def run_pipeline(
    spec: DatasetSpec,
    data_dir: AnyPath,
    config: Config,
    root: AnyPath = configs.ROOT,
    run_fn: str = configs.RUN_FN,
    trials: int = 0,
) -> Run:
    """Runs every component, or takes its result from the cache.

    Args:
        spec: the dataset's spec.
        data_dir: folder of the raw files.
        config: the config of the run.
        root: folder for artifacts, metadata, logs and pushed models.
        run_fn: import path of the function that trains.
        trials: number of trials of a Tuner before the Trainer; 0 leaves the Tuner out.

    Raises:
        InputError: the data or the config are wrong, `run_fn` names no function, its module cannot
            be imported, or the version of this model was rolled back.
    """
    _check_importable(run_fn)
    folders = configs.Folders(pathlib.Path(root), spec.name)
    local.run(
        create_pipeline(
            name=folders.pipeline_name,
            root=folders.pipeline,
            spec=spec,
            data_dir=data_dir,
            config=config,
            serving_dir=folders.serving,
            digests=CodeDigests.current(run_fn),
            metadata_path=folders.metadata,
            run_fn=run_fn,
            trials=trials,
        )
    )
    outputs = Outputs(folders.metadata, folders.pipeline_name)
    run = Run(spec, data_dir, config, folders, outputs, trials)
    _make_newest_version(run)
    return run


def _check_importable(run_fn: str) -> None:
    module, _, name = run_fn.rpartition(".")
    bad_path = InputError(run_fn, "it must be the import path of a function", "Correct the path.")
    if not all(part.isidentifier() for part in run_fn.split(".")) or not module:
        raise bad_path
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        # If the module exists and imports another one that does not, the path is right.
        if missing and f"{module}.".startswith(f"{missing}."):
            raise bad_path from error
        rule = f"its module must be importable, and raised {type(error).__name__}: {error}"
        raise InputError(run_fn, rule, "Correct the module.") from error
    if not callable(getattr(loaded, name, None)):
        raise bad_path


def _make_newest_version(run: Run) -> None:
    """Pushes the model again if its version is gone or no longer the newest.

    A cached Pusher copies nothing. But its version may have been deleted, or another model may have
    been pushed since, as when a config is changed and changed back.
    """
    pushed = run.pushed_version
    if pushed is None:
        return
    if int(pushed.name) in versions.rolled_back(run.folders.serving):
        raise InputError(
            f"version {pushed.name}",
            "it is the version of this run, and it was rolled back",
            f"Serve it again by `cmclrec versions restore {pushed.name} --model-base-path "
            f"{run.folders.serving}`, or train another one by another config",
        )
    folders = [path for path in run.folders.serving.glob("*") if path.name.isdigit()]
    newest = max((int(path.name) for path in folders), default=0)
    if pushed.is_dir() and int(pushed.name) == newest:
        return
    artifact = run.outputs.artifact("Pusher", "pushed_model")
    version, target = versions.publish(artifact.uri, run.folders.serving)
    artifact.set_string_custom_property("pushed_destination", str(target))
    artifact.set_string_custom_property("pushed_version", str(version))
    run.outputs.update(artifact)
