"""Runs the tasks of a compiled pipeline on this machine, by the entry point of their containers."""

import pathlib
import runpy
import subprocess
import sys

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_ENTRYPOINT = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"


class CompiledRun:
    """Runs a job as the service would: task after task, which share nothing but the job.

    Args:
        job: dict of the compiled job.
        root: folder of the artifacts, as `gcsOutputDirectory` is.
        separate: tasks that run in a separate process. The others run in this one, which saves
            half a minute of imports each.
    """

    def __init__(self, job, root, separate=()):
        self.spec = json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
        self.root = pathlib.Path(root)
        self.order = []
        self._separate = separate
        self._outputs = {}

    def run(self):
        """Runs every task after the tasks that it depends on."""
        tasks = dict(self.spec.root.dag.tasks)
        while tasks:
            ready = [name for name, task in tasks.items() if not {*task.dependent_tasks} & {*tasks}]
            assert ready, f"{sorted(tasks)} wait for each other"
            for name in sorted(ready):
                self._run_task(name, tasks.pop(name))
                self.order.append(name)
        return self

    def artifact(self, task, key):
        """Returns the only artifact in an output of a task, as a `RuntimeArtifact`."""
        (artifact,) = self._outputs[task].artifacts[key].artifacts
        return artifact

    def _run_task(self, name, task):
        component = self.spec.components[task.component_ref.name]
        executors = self.spec.deployment_spec["executors"]
        executor = json_format.MessageToDict(executors[component.executor_label])
        if "container" not in executor:
            # A resolver reads the service's metadata, which holds no model before the first run.
            self._outputs[name] = pipeline_spec_pb2.ExecutorOutput()
            return
        executor_input = self._executor_input(name, task, component)
        container = executor["container"]
        driver = container.get("lifecycle", {}).get("preCacheCheck")
        if driver:
            self._start(name, driver["command"], driver["args"], executor_input)
        self._start(name, container["command"], container["args"], executor_input)
        text = pathlib.Path(executor_input.outputs.output_file).read_text()
        outputs = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
        for key, output in component.output_definitions.artifacts.items():
            # The service knows the types from the job; a task does not write them.
            outputs.artifacts[key].artifacts[0].type.CopyFrom(output.artifact_type)
        self._outputs[name] = outputs

    def _executor_input(self, name, task, component):
        """Returns what the service puts in place of {{$}} in the command."""
        executor_input = pipeline_spec_pb2.ExecutorInput()
        for key, source in task.inputs.parameters.items():
            executor_input.inputs.parameter_values[key].CopyFrom(source.runtime_value.constant)
        for key, source in task.inputs.artifacts.items():
            producer = source.task_output_artifact
            produced = self._outputs[producer.producer_task].artifacts[producer.output_artifact_key]
            if produced.artifacts:
                executor_input.inputs.artifacts[key].CopyFrom(produced)
        folder = self.root / name
        for key, output in component.output_definitions.artifacts.items():
            artifact = executor_input.outputs.artifacts[key].artifacts.add()
            artifact.name = f"{name}/{key}"
            artifact.uri = str(folder / key)
            artifact.type.CopyFrom(output.artifact_type)
        executor_input.outputs.output_file = str(folder / "executor_output.json")
        return executor_input

    def _start(self, name, command, arguments, executor_input):
        text = json_format.MessageToJson(executor_input)
        arguments = [text if part == "{{$}}" else part for part in arguments]
        python, flag, module = command
        assert (python, flag) == ("python", "-m")
        if name in self._separate:
            subprocess.run([sys.executable, flag, module, *arguments], check=True)
            return
        before, sys.argv = sys.argv, [module, *arguments]
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as done:
            assert not done.code, f"{name} ended with {done.code}"
        finally:
            sys.argv = before
