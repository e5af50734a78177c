"""Runs a pipeline on this machine, one line a component."""

import copy
import datetime
import pathlib
import re
import sys
import time

from tfx.dsl.compiler import constants
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.portable import runtime_parameter_utils

from cmclrec_tf.errors import InputError
from pipeline.metadata import integrity
from pipeline.metadata.outputs import Outputs
from pipeline.runners.quiet import quiet

# The default runner would first try to fetch and start another one, a Go binary. In-memory is
# quicker here than worker processes, which would load TensorFlow once each.
BEAM_ARGS = ("--runner=FnApiRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1")


def run(pipeline):
    """Runs the pipeline's components one after the other; what is cached is not run again.

    Prints a line for each component to standard error. What TFX, Beam and TensorFlow log goes to
    a file in `logs` under the pipeline root.

    Args:
        pipeline: `tfx.orchestration.pipeline.Pipeline` with sqlite metadata. A component without
            Beam options takes BEAM_ARGS.

    Returns:
        Path of the log file.

    Raises:
        InputError: bad input that a component found, as its original one line, or a damaged file
            of records that an earlier component left.
        Exception: anything else that a component raised.
    """
    for component in pipeline.components:
        executor = component.executor_spec
        if isinstance(executor, BeamExecutorSpec) and not executor.beam_pipeline_args:
            component.with_beam_pipeline_args(BEAM_ARGS)
    root = pathlib.Path(pipeline.pipeline_info.pipeline_root)
    started = datetime.datetime.now().isoformat(timespec="microseconds")
    log = root / "logs" / f"{started.replace(':', '')}.log"
    with quiet(log):
        try:
            _Runner(pipeline).run(pipeline)
        except Exception as error:
            found = _input_error(error) or integrity.find_damage(
                _metadata(pipeline), pipeline.pipeline_info.pipeline_name
            )
            if found is None:
                print(f"The log is {log}", file=sys.stderr)
                raise
            raise found from None
    return log


class _Runner(LocalDagRunner):
    """LocalDagRunner, one node at a time, so that each can be timed and named."""

    def __init__(self, pipeline):
        super().__init__()
        self._metadata = _metadata(pipeline)

    def run_with_ir(self, pipeline, run_options=None):
        """Runs every node of the compiled pipeline."""
        # Once for all nodes: they belong to one run.
        run_id = datetime.datetime.now().isoformat()
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
        )
        name = pipeline.pipeline_info.id
        ids = [node.pipeline_node.node_info.id for node in pipeline.nodes]
        for number, node_id in enumerate(ids, 1):
            title = f"[{number}/{len(ids)}] {node_id} ..."
            # On a terminal the line is written over; a component's own bars come in between.
            again, end = ("\r", "") if sys.stderr.isatty() else ("", "\n")
            print(title, end=end, file=sys.stderr, flush=True)
            start = time.monotonic()
            for folder in integrity.set_aside(self._metadata, name, node_id):
                print(f"{folder} is not as it was left; made anew", file=sys.stderr, flush=True)
            try:
                super().run_with_ir(_only(pipeline, node_id), run_options)
            except BaseException:
                print(f"{again}{title} failed", file=sys.stderr, flush=True)
                raise
            integrity.seal(self._metadata, name, node_id)
            seconds = time.monotonic() - start
            cached = " (cached)" if Outputs(self._metadata, name).was_cached(node_id) else ""
            print(f"{again}{title} {seconds:.1f} s{cached}", file=sys.stderr, flush=True)


def _metadata(pipeline):
    return pipeline.metadata_connection_config.sqlite.filename_uri


def _only(pipeline, node_id):
    """The compiled pipeline with all its nodes skipped but one."""
    one = copy.deepcopy(pipeline)
    for node in one.nodes:
        if node.pipeline_node.node_info.id != node_id:
            node.pipeline_node.execution_options.skip.SetInParent()
    return one


# Beam hands on an exception of a worker as text, with the step that raised it behind.
_AS_TEXT = re.compile(r"InputError: (.+?): (.+?)\. (.+?)(?: \[while running .*)?$", re.MULTILINE)


def _input_error(error):
    """The InputError behind `error`, or None."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        found = _AS_TEXT.search(str(error))
        if found:
            return InputError(*found.groups())
        error = error.__cause__ or error.__context__
    return None
