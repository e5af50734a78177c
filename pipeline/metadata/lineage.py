"""Reads from ML Metadata what each component did last, and what a pushed model was made from.

It needs ML Metadata alone, which loads in seconds where TFX takes half a minute.
"""

import dataclasses
import datetime
import json
import os
from typing import Any

from ml_metadata.proto import metadata_store_pb2

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from pipeline.metadata import store
from pipeline.storage.folders import AnyPath

PUSHED = "PushedModel"
# Inputs that are other models: the one compared with and the one that training started from. The
# lineage of a model does not include theirs.
_OTHER_MODELS = ("baseline_model", "base_model")
_DESTINATION = "pushed_destination"
_STATE = metadata_store_pb2.Execution.State


@dataclasses.dataclass(frozen=True)
class Step:
    """One execution of a component.

    Attributes:
        component: id of the component.
        state: `complete`, `cached`, `failed`, `running`, ...
        started: local time of the start.
        seconds: time from the start to the last change of the state.
        outputs: `{key: folders}` of the artifacts that it wrote.
        properties: `{name: value}` of its settings.
    """

    component: str
    state: str
    started: datetime.datetime
    seconds: float
    outputs: dict[str, list[str]]
    properties: dict[str, Any]

    @property
    def files(self) -> dict[str, tuple[int, datetime.datetime]]:
        """`{raw file: (bytes, time of last change)}` of ExampleGen; empty for other components."""
        value = self._json("custom_config").get("custom_config", {}).get("value", "{}")
        states = json.loads(value).get("files", {})
        return {
            name: (size, datetime.datetime.fromtimestamp(changed / 1e9))
            for name, (size, changed) in states.items()
        }

    @property
    def config(self) -> Config | None:
        """The `Config` of the Trainer; None for other components."""
        values = self._json("custom_config").get("config")
        # Reading a model's lineage does not require the module that registers its backbone.
        return Config.of_run(values) if values else None

    @property
    def features(self) -> list[dict[str, Any]] | None:
        """The user features of the Trainer as plain values; None for other components."""
        return self._json("custom_config").get("features")

    def _json(self, name):
        value = self.properties.get(name)
        return json.loads(value) if isinstance(value, str) and value.startswith("{") else {}


class Lineage:
    """The executions of one pipeline, and the artifacts that connect them.

    Args:
        metadata_path: sqlite file of ML Metadata.
        pipeline_name: the pipeline's name in it.

    Raises:
        InputError: the file does not exist.
    """

    def __init__(self, metadata_path: AnyPath, pipeline_name: str):
        self._store = store.connect(metadata_path, read_only=True)
        self._executions: dict[int, metadata_store_pb2.Execution] = {}
        self._components: dict[int, str] = {}
        for component, executions in store.executions(self._store, pipeline_name).items():
            for execution in executions:
                self._executions[execution.id] = execution
                self._components[execution.id] = component

    def latest_steps(self) -> list[Step]:
        """Returns the newest `Step` of each component, in the order of their starts."""
        return self._newest(self._executions)

    def origins(self, version: AnyPath) -> list[Step]:
        """Returns every step that led to a pushed version, the first one first.

        Args:
            version: folder of the pushed version.

        Raises:
            InputError: this pipeline did not push the version.
        """
        version = os.path.abspath(version)
        artifacts = {
            artifact.id
            for artifact in self._store.get_artifacts_by_type(PUSHED)
            if artifact.custom_properties[_DESTINATION].string_value == version
        }
        if not artifacts:
            raise InputError(
                version,
                "it must be the folder of a version that this pipeline pushed",
                "Correct it, or give the --dataset and --root of the run that pushed it.",
            )
        visited: set[int] = set()
        while artifacts:
            # A cached execution names the same inputs as the one that wrote the artifact.
            producers = store.producers(self._store, artifacts) - visited
            visited |= producers
            inputs = store.inputs(self._store, producers)
            artifacts = {artifact for key, artifact in inputs if key not in _OTHER_MODELS}
        return self._newest(visited & self._executions.keys())

    def _newest(self, execution_ids):
        newest = {self._components[i]: i for i in sorted(execution_ids)}
        return [self._step(self._executions[i]) for i in sorted(newest.values())]

    def _step(self, execution):
        outputs: dict[str, list[str]] = {}
        for key, artifact_id in store.outputs(self._store, [execution.id]):
            (artifact,) = self._store.get_artifacts_by_id([artifact_id])
            outputs.setdefault(key, []).append(artifact.uri)
        start, end = execution.create_time_since_epoch, execution.last_update_time_since_epoch
        return Step(
            component=self._components[execution.id],
            state=_STATE.Name(execution.last_known_state).lower(),
            started=datetime.datetime.fromtimestamp(start / 1e3),
            seconds=(end - start) / 1e3,
            outputs=outputs,
            properties={
                name: getattr(value, value.WhichOneof("value"))
                for name, value in execution.custom_properties.items()
                if value.WhichOneof("value")
            },
        )
