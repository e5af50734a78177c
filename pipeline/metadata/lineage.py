"""What ML Metadata knows of a pipeline's past: states of its components, origins of a model.

Reads the sqlite file by ML Metadata alone, which takes seconds where TFX takes half a minute.
"""

import dataclasses
import datetime
import json
import os

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError

PUSHED = "PushedModel"
# What a model was compared with, and began with: each has a past of its own.
_OTHER_MODELS = ("baseline_model", "base_model")
_DESTINATION = "pushed_destination"
_STATE = metadata_store_pb2.Execution.State
_INPUTS = (metadata_store_pb2.Event.INPUT, metadata_store_pb2.Event.DECLARED_INPUT)
_OUTPUTS = (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.DECLARED_OUTPUT)


@dataclasses.dataclass(frozen=True)
class Step:
    """One execution of a component.

    Attributes:
        component: its id.
        state: in lower case: `complete`, `cached`, `failed`, `running`, ...
        started: local time.
        seconds: until its state was last changed.
        outputs: `{key: [folders]}` of its artifacts.
        properties: what it was given beside artifacts, `{name: value}`.
    """

    component: str
    state: str
    started: datetime.datetime
    seconds: float
    outputs: dict
    properties: dict

    @property
    def files(self):
        """`{raw file: (bytes, time of change)}` of the step that read them, else empty."""
        found = self._json("custom_config").get("custom_config", {}).get("value", "{}")
        states = json.loads(found).get("files", {})
        return {
            name: (size, datetime.datetime.fromtimestamp(changed / 1e9))
            for name, (size, changed) in states.items()
        }

    @property
    def config(self):
        """The `Config` of the step that trained, else None."""
        values = self._json("custom_config").get("config")
        return values and Config.from_dict(values)

    @property
    def features(self):
        """The user features of the step that trained, as plain values, else None."""
        return self._json("custom_config").get("features")

    def _json(self, name):
        found = self.properties.get(name)
        return json.loads(found) if isinstance(found, str) and found.startswith("{") else {}


class History:
    """The executions and artifacts of one pipeline.

    Args:
        metadata_path: sqlite file of ML Metadata.
        pipeline_name: the pipeline's name in it.

    Raises:
        InputError: the file does not exist.
    """

    def __init__(self, metadata_path, pipeline_name):
        if not os.path.isfile(metadata_path):
            raise InputError(metadata_path, "the metadata must exist", "Run the pipeline first.")
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(metadata_path)
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
        self._store = metadata_store.MetadataStore(config)
        self._component = {}
        prefix = f"{pipeline_name}."
        for context in self._store.get_contexts_by_type("node"):
            if context.name.startswith(prefix):
                for execution in self._store.get_executions_by_context(context.id):
                    self._component[execution.id] = context.name.removeprefix(prefix)

    def newest(self):
        """The newest `Step` of each component, in the order in which they began."""
        by_component = {self._component[i]: i for i in sorted(self._component)}
        return [self._step(i) for i in sorted(by_component.values())]

    def origins(self, version):
        """Every step that a pushed version comes from, the first one first.

        Args:
            version: folder of the pushed version.

        Raises:
            InputError: this pipeline did not push it.
        """
        version = os.path.abspath(version)
        pushed = [
            artifact
            for artifact in self._store.get_artifacts_by_type(PUSHED)
            if artifact.custom_properties[_DESTINATION].string_value == version
        ]
        if not pushed:
            raise InputError(
                version,
                "it must be the folder of a version that this pipeline pushed",
                "Correct it, or give the --dataset and --root of the run that pushed it.",
            )
        found, waiting = set(), [artifact.id for artifact in pushed]
        while waiting:
            events = self._store.get_events_by_artifact_ids(waiting)
            makers = {e.execution_id for e in events if e.type in _OUTPUTS} - found
            # A cached execution puts out what an earlier one made, and names the same inputs.
            found |= makers
            events = self._store.get_events_by_execution_ids(makers) if makers else []
            waiting = [
                e.artifact_id
                for e in events
                if e.type in _INPUTS and e.path.steps[0].key not in _OTHER_MODELS
            ]
        newest = {self._component.get(i): i for i in sorted(found) if i in self._component}
        return [self._step(i) for i in sorted(newest.values())]

    def _step(self, execution_id):
        (execution,) = self._store.get_executions_by_id([execution_id])
        outputs = {}
        for event in self._store.get_events_by_execution_ids([execution_id]):
            if event.type in _OUTPUTS:
                (artifact,) = self._store.get_artifacts_by_id([event.artifact_id])
                outputs.setdefault(event.path.steps[0].key, []).append(artifact.uri)
        began, ended = execution.create_time_since_epoch, execution.last_update_time_since_epoch
        return Step(
            component=self._component[execution_id],
            state=_STATE.Name(execution.last_known_state).lower(),
            started=datetime.datetime.fromtimestamp(began / 1e3),
            seconds=(ended - began) / 1e3,
            outputs=outputs,
            properties={
                name: getattr(value, value.WhichOneof("value"))
                for name, value in execution.custom_properties.items()
                if value.WhichOneof("value")
            },
        )


def changes(config):
    """`{path: value}` of the settings in which a `Config` differs from the defaults."""
    found = {}
    ours, theirs = config.to_dict(), Config().to_dict()
    for part, value in ours.items():
        if not isinstance(value, dict):
            found |= {part: value} if value != theirs[part] else {}
            continue
        found |= {f"{part}.{k}": v for k, v in value.items() if v != theirs[part][k]}
    return found
