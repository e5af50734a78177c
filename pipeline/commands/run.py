"""Runs the whole pipeline on this machine."""

import functools
import pathlib

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import locks
from pipeline import configs
from pipeline.commands.options import import_run_fn
from pipeline.commands.run_results import Run
from pipeline.components.pusher import FORCE, Pusher
from pipeline.datasets import DatasetSpec
from pipeline.metadata.code_digests import CodeDigests
from pipeline.metadata.outputs import Outputs
from pipeline.pipeline import create_pipeline
from pipeline.runners import local
from pipeline.storage.folders import AnyPath
from serving import versions


def run_pipeline(
    spec: DatasetSpec,
    data_dir: AnyPath,
    config: Config,
    root: AnyPath = configs.ROOT,
    run_fn: str = configs.RUN_FN,
    trials: int = 0,
    force_push: bool = False,
) -> Run:
    """Runs every component, or takes its result from the cache.

    Args:
        spec: the dataset's spec.
        data_dir: folder of the raw files.
        config: the config of the run.
        root: folder for artifacts, metadata, logs and pushed models.
        run_fn: import path of the function that trains.
        trials: number of trials of a Tuner before the Trainer; 0 leaves the Tuner out.
        force_push: whether the newest pushed version may be a model of another dataset.

    Raises:
        InputError: the data or the config are wrong, `run_fn` names no function, its module cannot
            be imported, the newest pushed version is a model of another dataset, or the version of
            this model was rolled back.
    """
    import_run_fn(run_fn)
    folders = configs.Folders(pathlib.Path(root), spec.name)
    push = functools.partial(Pusher, custom_config={FORCE: True}) if force_push else Pusher
    if not force_push:
        versions.check_dataset(spec.name, folders.serving, "Use another root or force_push.")
    # Else the artifacts of another run could count as those of this one.
    with locks.waiting(folders.lock):
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
                make_pusher=push,
                trials=trials,
            )
        )
        outputs = Outputs(folders.metadata, folders.pipeline_name)
        run = Run(spec, data_dir, config, folders, outputs, trials)
        _make_newest_version(run, force_push)
    return run


def _make_newest_version(run: Run, force_push: bool = False) -> None:
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
    version, target = versions.publish(artifact.uri, run.folders.serving, force_push)
    artifact.set_string_custom_property("pushed_destination", str(target))
    artifact.set_string_custom_property("pushed_version", str(version))
    run.outputs.update(artifact)
