"""Lists for everybody at once: the users as they are now, through a pushed model."""

import dataclasses
import pathlib
import shutil

from tfx.components import BulkInferrer
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata, pipeline
from tfx.proto import bulk_inferrer_pb2
from tfx.types import standard_artifacts

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Schema
from pipeline.components.example_gen import CURRENT, current_users
from pipeline.components.lists import COMPONENT, Lists
from pipeline.components.population import user_counts, users_by_segment
from pipeline.metadata.lineage import Lineage
from pipeline.metadata.outputs import Outputs
from pipeline.runners import local
from pipeline.storage.folders import make_folder
from serving import versions
from serving.contract import SERVING_DEFAULT


@dataclasses.dataclass(frozen=True)
class Made:
    """What `make` left.

    Attributes:
        folder: of the Parquet files.
        users: `{segment: number of users}`.
    """

    folder: pathlib.Path
    users: dict


def make(spec, data_dir, folders, version, k, out):
    """Recommends to every user of the raw files, by a pushed model, and writes Parquet files.

    What is cached is not run again: the same users, files and model give the same lists.

    Args:
        spec: the `DatasetSpec`.
        data_dir: folder of the raw files.
        folders: `configs.Folders` of the run that pushed the model.
        version: folder of the pushed version; None takes the newest.
        k: items of a list.
        out: folder of the lists; what it holds of older lists is replaced.

    Returns:
        `Made`.

    Raises:
        InputError: no such version, another dataset's model, or a folder that cannot be written.
    """
    version = version or versions.latest(folders.serving)[1]
    steps = Lineage(folders.metadata, folders.pipeline_name).origins(version)
    (trained,) = [step for step in steps if step.config]
    _check_features(trained, spec, version)
    config = trained.config
    if not 1 <= k <= config.serve.list_length:
        raise InputError(
            f"-k {k}",
            f"the model answers with 1 to {config.serve.list_length} items",
            "Ask for as many, or export longer lists by serve.list_length.",
        )
    out = make_folder(out, "Give another folder by --out.")
    (model,) = trained.outputs["model"]
    name = f"{folders.pipeline_name}-lists"
    local.run(_pipeline(name, spec, data_dir, config.data, model, k, folders))
    outputs = Outputs(folders.metadata, name)
    for old in out.glob("*.parquet"):
        old.unlink()
    for path in pathlib.Path(outputs.artifact(COMPONENT, "lists").uri).glob("*.parquet"):
        shutil.copy(path, out)
    return Made(out, users_by_segment(user_counts(outputs.artifact(CURRENT, "examples"))))


def _pipeline(name, spec, data_dir, data, model, k, folders):
    imported = Importer(source_uri=model, artifact_type=standard_artifacts.Model).with_id("Pushed")
    users = current_users(spec, data_dir, data)
    inferrer = BulkInferrer(
        examples=users.outputs["examples"],
        model=imported.outputs["result"],
        model_spec=bulk_inferrer_pb2.ModelSpec(model_signature_name=[SERVING_DEFAULT]),
    )
    lists = Lists(inference=inferrer.outputs["inference_result"], k=k).with_id(COMPONENT)
    return pipeline.Pipeline(
        pipeline_name=name,
        pipeline_root=str(folders.pipeline),
        components=[imported, users, inferrer, lists],
        enable_cache=True,
        metadata_connection_config=metadata.sqlite_metadata_connection_config(
            str(folders.metadata)
        ),
    )


def _check_features(trained, spec, version):
    """A record of other features would be read as one with all features missing."""
    ours = list(Schema(spec.features).to_dict()["features"])
    if trained.features != ours:
        raise InputError(
            version,
            f"it was trained on other user features than {spec.name} has now",
            "Run the pipeline again.",
        )
