"""Runs a pipeline on this machine and prints one line per component."""

import copy
import datetime
import pathlib
import re
import sys
import time
from typing import Any

from tfx.dsl.compiler import constants
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import locks, stopping
from cmclrec_tf.processes.whole import full_disk
from pipeline.configs import lock_of
from pipeline.metadata import abandoned, integrity
from pipeline.metadata.outputs import Outputs
from pipeline.runners.progress import ticking
from pipeline.runners.quiet import quiet

# Beam's default runner first tries to download and start another one, a Go binary. In memory is
# faster here than worker processes, which would each load TensorFlow.
BEAM_ARGS = ("--runner=FnApiRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1")


def run(pipeline: Pipeline) -> pathlib.Path:
    """Runs the components one after the other, or takes their results from the cache.

    Runs of one pipeline wait for each other. What a run that was killed left is removed first.

    Each component prints a line to standard error, and how long it has been running, see
    `progress`. The logs of TFX, Beam and TensorFlow go to a file in the folder `logs` of the
    pipeline root.

    Args:
        pipeline: a pipeline with sqlite metadata. Components without Beam options get BEAM_ARGS.

    Returns:
        Path of the log file.

    Raises:
        InputError: a component found bad input, or a damaged file from an earlier component, or the
            disk is full.
        Exception: a component failed for any other reason.
    """
    for component in pipeline.components:
        executor = component.executor_spec
        if isinstance(executor, BeamExecutorSpec) and not executor.beam_pipeline_args:
            component.with_beam_pipeline_args(BEAM_ARGS)
    root = pathlib.Path(pipeline.pipeline_info.pipeline_root)
    metadata = _metadata_path(pipeline)
    now = datetime.datetime.now().isoformat(timespec="microseconds")
    log = root / "logs" / f"{now.replace(':', '')}.log"
    with locks.waiting(lock_of(metadata)), quiet(log):
        abandoned.close(metadata, pipeline.pipeline_info.pipeline_name, root)
        try:
            _Runner(pipeline).run(pipeline)
        except BaseException as error:
            if _is_stop(error):
                abandoned.close(metadata, pipeline.pipeline_info.pipeline_name, root)
                raise
            input_error = (
                _input_error(error)
                or full_disk(error, [root, metadata])
                or integrity.find_damage(metadata, pipeline.pipeline_info.pipeline_name)
            )
            if input_error is None:
                print(f"The log is {log}", file=sys.stderr)
                raise
            raise input_error from None
    return log


class _Runner(LocalDagRunner):
    """Runs one node at a time, so that each can be timed and named."""

    def __init__(self, pipeline: Pipeline):
        super().__init__()
        self._metadata_path = _metadata_path(pipeline)

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: Any = None) -> None:
        """Runs every node of the compiled pipeline."""
        # All nodes share this id, so that they belong to one run.
        run_id = datetime.datetime.now().isoformat()
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
        )
        name = pipeline.pipeline_info.id
        ids = [node.pipeline_node.node_info.id for node in pipeline.nodes]
        for number, node_id in enumerate(ids, 1):
            title = f"[{number}/{len(ids)}] {node_id} ..."
            # On a terminal the final line replaces this one, unless a progress bar came between.
            begin, end = ("\r", "") if sys.stderr.isatty() else ("", "\n")
            print(title, end=end, file=sys.stderr, flush=True)
            start = time.monotonic()
            for folder in integrity.set_aside(self._metadata_path, name, node_id):
                line = f"{folder} has changed since it was written, and is made again"
                print(line, file=sys.stderr, flush=True)
            try:
                with ticking(title):
                    super().run_with_ir(_only(pipeline, node_id), run_options)
            except BaseException as error:
                if not _is_stop(error):
                    print(f"{begin}{title} failed", file=sys.stderr, flush=True)
                elif not end:
                    print(file=sys.stderr, flush=True)
                raise
            integrity.seal(self._metadata_path, name, node_id)
            seconds = time.monotonic() - start
            is_cached = Outputs(self._metadata_path, name).was_cached(node_id)
            cached = " (cached)" if is_cached else ""
            print(f"{begin}{title} {seconds:.1f} s{cached}", file=sys.stderr, flush=True)


def _is_stop(error: BaseException) -> bool:
    """Returns whether an error is no fault: after a signal, libraries raise errors of their own."""
    return bool(stopping.received()) or not isinstance(error, Exception)


def _metadata_path(pipeline: Pipeline) -> str:
    return pipeline.metadata_connection_config.sqlite.filename_uri


def _only(pipeline: pipeline_pb2.Pipeline, node_id: str) -> pipeline_pb2.Pipeline:
    """Returns a copy of the compiled pipeline that skips all nodes except one."""
    one = copy.deepcopy(pipeline)
    for node in one.nodes:
        if node.pipeline_node.node_info.id != node_id:
            node.pipeline_node.execution_options.skip.SetInParent()
    return one


# Beam passes on the exception of a worker as text, followed by the step that raised it.
_AS_TEXT = re.compile(r"InputError: (.+?): (.+?)\. (.+?)(?: \[while running .*)?$", re.MULTILINE)


def _input_error(error: BaseException | None) -> InputError | None:
    """Returns the InputError that caused `error`, or None."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        match = _AS_TEXT.search(str(error))
        if match:
            return InputError(*match.groups())
        error = error.__cause__ or error.__context__
    return None
