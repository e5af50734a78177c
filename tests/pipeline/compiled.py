"""Runs a compiled pipeline's tasks on this machine by the entrypoint that a container starts."""

import pathlib
import runpy
import subprocess
import sys

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_ENTRYPOINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"


class CompiledRun:
    """A job as the service would run it: task after task, nothing but the job between them.

    Args:
        job: dict of the compiled job.
        root: folder of the artifacts, in the place of `gcsOutputDirectory`.
        own_process: tasks whose containers are processes of their own; the others run in this one,
            which spares each of them half a minute of imports.
    """

    def __init__(self, job, root, own_process=()):
        self.spec = json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
        self.root = pathlib.Path(root)
        self.order = []
        self._own_process = own_process
        self._outputs = {}

    def run(self):
        """Runs every task after those that it depends on."""
        tasks = dict(self.spec.root.dag.tasks)
        while tasks:
            ready = [name for name, task in tasks.items() if not {*task.dependent_tasks} & {*tasks}]
            assert ready, f"{sorted(tasks)} wait for each other"
            for name in sorted(ready):
                self._run_task(name, tasks.pop(name))
                self.order.append(name)
        return self

    def artifact(self, task, key):
        """The one artifact that a task put out, as a `RuntimeArtifact`."""
        (artifact,) = self._outputs[task].artifacts[key].artifacts
        return artifact

    def _run_task(self, name, task):
        component = self.spec.components[task.component_ref.name]
        executors = self.spec.deployment_spec["executors"]
        executor = json_format.MessageToDict(executors[component.executor_label])
        if "container" not in executor:
            # A resolver asks the service's metadata, which knows no model before the first run.
            self._outputs[name] = pipeline_spec_pb2.ExecutorOutput()
            return
        given = self._executor_input(name, task, component)
        container = executor["container"]
        driver = container.get("lifecycle", {}).get("preCacheCheck")
        if driver:
            self._start(name, driver["command"], driver["args"], given)
        self._start(name, container["command"], container["args"], given)
        text = pathlib.Path(given.outputs.output_file).read_text()
        left = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
        for key, output in component.output_definitions.artifacts.items():
            # The service knows the types from the job; a task does not write them.
            left.artifacts[key].artifacts[0].type.CopyFrom(output.artifact_type)
        self._outputs[name] = left

    def _executor_input(self, name, task, component):
        """What the service writes in the place of {{$}}."""
        given = pipeline_spec_pb2.ExecutorInput()
        for key, source in task.inputs.parameters.items():
            given.inputs.parameter_values[key].CopyFrom(source.runtime_value.constant)
        for key, source in task.inputs.artifacts.items():
            producer = source.task_output_artifact
            found = self._outputs[producer.producer_task].artifacts[producer.output_artifact_key]
            if found.artifacts:
                given.inputs.artifacts[key].CopyFrom(found)
        folder = self.root / name
        for key, output in component.output_definitions.artifacts.items():
            artifact = given.outputs.artifacts[key].artifacts.add()
            artifact.name = f"{name}/{key}"
            artifact.uri = str(folder / key)
            artifact.type.CopyFrom(output.artifact_type)
        given.outputs.output_file = str(folder / "executor_output.json")
        return given

    def _start(self, name, command, arguments, given):
        text = json_format.MessageToJson(given)
        arguments = [text if part == "{{$}}" else part for part in arguments]
        python, flag, module = command
        assert (python, flag) == ("python", "-m")
        if name in self._own_process:
            subprocess.run([sys.executable, flag, module, *arguments], check=True)
            return
        before, sys.argv = sys.argv, [module, *arguments]
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as done:
            assert not done.code, f"{name} ended with {done.code}"
        finally:
            sys.argv = before
