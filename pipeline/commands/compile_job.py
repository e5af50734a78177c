"""Compiles a job for Kubeflow Pipelines and Vertex AI from a dataset and a config."""

import pathlib
from typing import Any

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from pipeline import configs
from pipeline.components.blessed_before import latest_blessed
from pipeline.datasets import DatasetSpec
from pipeline.metadata.code_digests import CodeDigests
from pipeline.pipeline import create_pipeline
from pipeline.runners import vertex
from pipeline.runners.cloud import Cloud
from pipeline.runners.local import BEAM_ARGS
from pipeline.storage.folders import AnyPath, is_remote


def compile_job(
    spec: DatasetSpec,
    data_dir: AnyPath,
    config: Config,
    *,
    image: str,
    root: AnyPath,
    serving_dir: AnyPath,
    out: AnyPath,
    machine: vertex.Machine | None = None,
    cloud: Cloud | None = None,
    run_fn: str = configs.RUN_FN,
    trials: int = 0,
) -> dict[str, Any]:
    """Compiles the same pipeline that runs on this machine.

    Args:
        spec: the dataset's spec.
        data_dir: folder of the raw files, which the tasks must be able to read.
        config: the config of the run.
        image: container image of the tasks.
        root: folder of the artifacts.
        serving_dir: model base path that blessed models are pushed to.
        out: path of the job.
        machine: resources of the Trainer's task; None leaves them to the service.
        cloud: services of Google Cloud to use; None uses none, and each task runs Beam in its own
            memory.
        run_fn: import path of the function that trains.
        trials: number of trials of a Tuner before the Trainer; 0 leaves the Tuner out.

    Returns:
        The job as a dict.

    Raises:
        InputError: the tasks cannot reach a folder, or see `vertex.compile_pipeline`.
    """
    if is_remote(root):
        for option, folder in (("--data-dir", data_dir), ("--serving-dir", serving_dir)):
            _check_remote(option, folder, root)
    machine, cloud = machine or vertex.Machine(), cloud or Cloud()
    pipeline = create_pipeline(
        name=configs.Folders(pathlib.Path(configs.ROOT), spec.name).pipeline_name,
        root=root,
        spec=spec,
        data_dir=data_dir,
        config=config,
        serving_dir=serving_dir,
        digests=CodeDigests.current(run_fn),
        run_fn=run_fn,
        trials=trials,
        make_baseline=latest_blessed,
        beam_args=cloud.beam_args(f"{str(root).rstrip('/')}/dataflow") or BEAM_ARGS,
        # On Vertex AI only TFX's own resolvers work, and they fail where there is nothing yet.
        compare_drift=False,
        make_trainer=cloud.make_trainer(machine),
        make_pusher=cloud.make_pusher(),
    )
    # A training job brings its own machine; the task only waits for it.
    task_machine = None if cloud.machine_type else machine
    return vertex.compile_pipeline(pipeline, image, out, task_machine)


def _check_remote(option: str, folder: AnyPath, root: AnyPath) -> None:
    if not is_remote(folder):
        raise InputError(
            f"{option} {folder}",
            f"the tasks run where {root} is, and cannot read or write a folder of this machine",
            f"Copy the files there if need be, and give their folder by {option}.",
        )
