"""Recommends to all users at once, with a pushed model."""

import dataclasses
import pathlib
import shutil
import tempfile

from tfx.components import BulkInferrer
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import metadata, pipeline
from tfx.proto import bulk_inferrer_pb2
from tfx.types import standard_artifacts

from cmclrec_tf.config import Config, DataConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import locks
from cmclrec_tf.schema import Feature
from pipeline.components.example_gen import CURRENT, current_users
from pipeline.components.lists import COMPONENT, Lists
from pipeline.components.population import user_counts, users_by_segment
from pipeline.configs import Folders
from pipeline.datasets import DatasetSpec
from pipeline.metadata.lineage import Lineage
from pipeline.metadata.outputs import Outputs
from pipeline.runners import local
from pipeline.storage.folders import AnyPath, make_folder
from serving import versions
from serving.contract import SERVING_DEFAULT


@dataclasses.dataclass(frozen=True)
class BulkLists:
    """The result of `make_lists`.

    Attributes:
        folder: folder of the Parquet files.
        users: `{segment: number of users}`.
    """

    folder: pathlib.Path
    users: dict[str, int]


def make_lists(
    spec: DatasetSpec,
    data_dir: AnyPath,
    folders: Folders,
    version: AnyPath | None,
    k: int,
    out: AnyPath,
) -> BulkLists:
    """Writes Parquet files with a list of items for every user in the raw files.

    The same users, files and model give the same lists, which then come from the cache.

    Args:
        spec: the dataset's spec.
        data_dir: folder of the raw files.
        folders: folders of the run that pushed the model.
        version: folder of the pushed version; None takes the newest.
        k: number of items in a list.
        out: folder for the lists. Older lists in it are replaced.

    Raises:
        InputError: there is no such version, it belongs to another dataset, its lists are shorter
            than `k`, or the folder cannot be written.
    """
    version = version or versions.latest(folders.serving)[1]
    config, features, model = _trained(folders, version)
    # BulkInferrer would read the users of another dataset as users without any feature.
    if tuple(Feature(**values) for values in features) != spec.features:
        raise InputError(
            version,
            f"it was trained on other user features than {spec.name} has now",
            "Run the pipeline again.",
        )
    if not 1 <= k <= config.serve.list_length:
        raise InputError(
            f"-k {k}",
            f"the model answers with 1 to {config.serve.list_length} items",
            "Ask for as many, or export longer lists by serve.list_length.",
        )
    out = make_folder(out, "Give another folder by --out.")
    name = f"{folders.pipeline_name}-lists"
    with locks.waiting(folders.lock):
        local.run(_pipeline(name, spec, data_dir, config.data, model, k, folders))
        outputs = Outputs(folders.metadata, name)
        _replace(out, pathlib.Path(outputs.artifact(COMPONENT, "lists").uri))
    return BulkLists(out, users_by_segment(user_counts(outputs.artifact(CURRENT, "examples"))))


def _replace(out: pathlib.Path, lists: pathlib.Path) -> None:
    """Replaces the Parquet files of a folder; a full disk leaves the older ones."""
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as new:
        for path in lists.glob("*.parquet"):
            shutil.copy(path, new)
        for path in out.glob("*.parquet"):
            path.unlink()
        for path in pathlib.Path(new).iterdir():
            path.rename(out / path.name)


def _trained(folders: Folders, version: AnyPath) -> tuple[Config, list, str]:
    """Returns the config, the user features and the export behind a pushed version."""
    for step in Lineage(folders.metadata, folders.pipeline_name).origins(version):
        if step.config is not None:
            (model,) = step.outputs["model"]
            return step.config, step.features or [], model
    raise InputError(
        version, "the metadata must know its training", "Run the pipeline again to push another."
    )


def _pipeline(
    name: str,
    spec: DatasetSpec,
    data_dir: AnyPath,
    data: DataConfig,
    model: str,
    k: int,
    folders: Folders,
) -> pipeline.Pipeline:
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
