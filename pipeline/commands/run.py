"""One run of the whole pipeline on this machine, and what it left."""

import dataclasses
import importlib
import pathlib

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.evaluator import constants
from tfx.types import artifact_utils

from cmclrec_tf import schema
from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from pipeline import configs
from pipeline.components.example_gen import COMPONENT
from pipeline.components.population import summary, user_counts
from pipeline.datasets import DatasetSpec
from pipeline.evaluation.results import read_failures, read_metrics, read_slices
from pipeline.evaluation.serving_verdict import read_serving_failures
from pipeline.metadata.code_digests import CodeDigests
from pipeline.metadata.outputs import Outputs
from pipeline.metadata.settings import tuned_settings
from pipeline.pipeline import create_pipeline
from pipeline.runners import local
from pipeline.trainer import prepared_dataset
from serving import versions


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run left, found in ML Metadata: a cached component counts like one that ran.

    Attributes:
        spec: the `DatasetSpec`.
        data_dir: folder of the raw files.
        config: of the run.
        folders: where everything lies.
        outputs: the components' artifacts.
        trials: of the Tuner; 0 without one.
    """

    spec: DatasetSpec
    data_dir: pathlib.Path | str
    config: Config
    folders: configs.Folders
    outputs: Outputs
    trials: int = 0

    @property
    def tuned(self):
        """`{path of a setting: value}` that the Tuner chose; empty without one."""
        if not self.trials:
            return {}
        return tuned_settings(self.outputs.artifact("Tuner", "best_hyperparameters").uri)

    @property
    def evaluation(self):
        """Folder of the Evaluator's evaluation."""
        return self.outputs.artifact("Evaluator", "evaluation").uri

    @property
    def rows(self):
        """`{segment: {metric: value}}` of the trained model on the test split."""
        return read_metrics(self.evaluation)

    @property
    def slices(self):
        """The same of the users of each value, `slices.Slice`s; see `read_slices`."""
        return read_slices(self.evaluation)

    @property
    def reasons(self):
        """Why the model was not pushed, one line each; empty when it was."""
        if self.pushed is not None:
            return []
        verdict = self.outputs.artifact("ServingValidator", "blessing").uri
        return read_failures(self.evaluation) + read_serving_failures(verdict)

    @property
    def baseline(self):
        """Folder of the model that this one was compared with, or None without one."""
        blessing = self.outputs.artifact("Evaluator", "blessing")
        key = constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY
        return blessing.get_string_custom_property(key) or None

    @property
    def card(self):
        """Folder of the model card."""
        return self.outputs.artifact("ModelCard", "card").uri

    @property
    def pushed(self):
        """Folder of the pushed version, or None when the model was not blessed."""
        artifact = self.outputs.artifact("Pusher", "pushed_model")
        if artifact.get_int_custom_property("pushed") != 1:
            return None
        return pathlib.Path(artifact.get_string_custom_property("pushed_destination"))

    @property
    def users(self):
        """One line on who was kept and who was dropped."""
        return summary(user_counts(self.outputs.artifact(COMPONENT, "examples")))

    @property
    def validation(self):
        """Folder of the anomalies that ExampleValidator found, by split."""
        return self.outputs.artifact("ExampleValidator", "anomalies").uri

    @property
    def anomalies(self):
        """Number of features in which the data of a split departs from the schema."""
        found = pathlib.Path(self.validation).glob("Split-*/SchemaDiff.pb")
        return sum(
            len(anomalies_pb2.Anomalies.FromString(path.read_bytes()).anomaly_info)
            for path in found
        )

    @property
    def prepared(self):
        """Folder of the transformed examples."""
        return self.outputs.artifact("Transform", "transformed_examples").uri

    @property
    def model(self):
        """Folder of the exported model."""
        return self.outputs.artifact("Trainer", "model").uri

    @property
    def logs(self):
        """TensorBoard's log folder."""
        return self.outputs.artifact("Trainer", "model_run").uri

    def dataset(self):
        """The `PreparedDataset` that the run trained on, with all splits."""
        examples = self.outputs.artifact("Transform", "transformed_examples")
        return prepared_dataset(
            name=self.spec.name,
            features=tuple(self.spec.features),
            max_history=self.config.data.max_history,
            transform_graph=self.outputs.artifact("Transform", "transform_graph").uri,
            patterns={
                split: [f"{artifact_utils.get_split_uri([examples], split)}/*"]
                for split in schema.SPLITS
            },
        )

    @property
    def test_files(self):
        """Files of raw user records of the test split."""
        examples = self.outputs.artifact(COMPONENT, "examples")
        return sorted(pathlib.Path(artifact_utils.get_split_uri([examples], schema.TEST)).glob("*"))


def run_pipeline(spec, data_dir, config, root=configs.ROOT, run_fn=configs.RUN_FN, trials=0):
    """Runs every component, or takes its result from the cache.

    Args:
        spec: the `DatasetSpec`.
        data_dir: folder of the raw files.
        config: the `Config`.
        root: folder that everything is kept under.
        run_fn: import path of the function that trains.
        trials: of a Tuner before the Trainer; 0 leaves it out.

    Returns:
        `Run`.

    Raises:
        InputError: bad data, a config that cannot be evaluated, no function at `run_fn`, a
            module of it that fails, or a model whose version was rolled back.
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
    _serve_again(run)
    return run


def _check_importable(run_fn):
    module, _, name = run_fn.rpartition(".")
    wrong = InputError(run_fn, "it must be the import path of a function", "Correct the path.")
    if not all(part.isidentifier() for part in run_fn.split(".")) or not module:
        raise wrong
    try:
        found = importlib.import_module(module)
    except Exception as error:
        lost = error.name if isinstance(error, ModuleNotFoundError) else None
        # A module that is lost further in is no wrong path.
        if lost and f"{module}.".startswith(f"{lost}."):
            raise wrong from error
        said = f"{type(error).__name__}: {error}"
        rule = f"its module must be importable, and raised {said}"
        raise InputError(run_fn, rule, "Correct the module.") from error
    if not callable(getattr(found, name, None)):
        raise wrong


def _serve_again(run):
    """Makes the pushed model the newest version again.

    A cached push copies nothing, even if its version was deleted or if another model has been
    pushed since, as happens when a config is changed and changed back.
    """
    pushed = run.pushed
    if pushed is None:
        return
    if int(pushed.name) in versions.rolled_back(run.folders.serving):
        raise InputError(
            f"version {pushed.name}",
            "it is this run's, and it was rolled back",
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
