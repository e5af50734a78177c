"""From a dataset and a config to a compiled job for Kubeflow Pipelines and Vertex AI."""

import pathlib

from cmclrec_tf.errors import InputError
from pipeline import configs
from pipeline.components.blessed_before import latest_blessed
from pipeline.metadata.code_digests import CodeDigests
from pipeline.pipeline import create_pipeline
from pipeline.runners import vertex
from pipeline.runners.cloud import Cloud
from pipeline.runners.local import BEAM_ARGS
from pipeline.storage.folders import is_remote


def compile_job(
    spec,
    data_dir,
    config,
    *,
    image,
    root,
    serving_dir,
    out,
    machine=None,
    cloud=None,
    run_fn=configs.RUN_FN,
    trials=0,
):
    """Compiles the whole pipeline; it is the one that runs on this machine.

    Args:
        spec: the `DatasetSpec`.
        data_dir: folder of the raw files, where the tasks can read it.
        config: the `Config`.
        image: container image of the tasks.
        root: folder of the artifacts.
        serving_dir: model base path that blessed models are pushed to.
        out: path of the job.
        machine: `vertex.Machine` of the Trainer.
        cloud: `cloud.Cloud`, the services that are used; without Dataflow each task runs Beam in
            its own memory.
        run_fn: import path of the function that trains.
        trials: of a Tuner before the Trainer; 0 leaves it out.

    Returns:
        The job as a dict.

    Raises:
        InputError: folders that the tasks cannot reach, or what `vertex.compile_pipeline` raises.
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
        # Vertex AI knows TFX's own resolvers alone, and none of them may find nothing.
        compare_drift=False,
        **cloud.components(machine),
    )
    # A training job has a machine of its own; the task that waits for it needs none.
    waits = bool(cloud.machine_type)
    return vertex.compile_pipeline(pipeline, image, out, None if waits else machine)


def _check_remote(option, folder, root):
    if not is_remote(folder):
        raise InputError(
            f"{option} {folder}",
            f"the tasks run where {root} is, and cannot read or write a folder of this machine",
            f"Copy the files there if need be, and give their folder by {option}.",
        )
