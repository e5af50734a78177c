"""A pipeline that another process runs, and one whose process was killed."""

import threading

import pytest
from click.testing import CliRunner
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as proto

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes import locks
from pipeline import configs
from pipeline.commands import cli
from pipeline.metadata import abandoned
from pipeline.metadata.lineage import Lineage
from tests.pipeline.toy_datasets import write_twelve

Execution = proto.Execution


@pytest.fixture
def folders(tmp_path):
    """The folders of a pipeline whose Transform has not ended and whose ExampleGen has."""
    folders = configs.Folders(tmp_path / "var", "twelve")
    folders.make()
    config = proto.ConnectionConfig()
    config.sqlite.filename_uri = str(folders.metadata)
    config.sqlite.connection_mode = proto.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = MetadataStore(config)
    node = store.put_context_type(proto.ContextType(name="node"))
    kind = store.put_execution_type(proto.ExecutionType(name="component"))
    states = {"ExampleGen": Execution.COMPLETE, "Transform": Execution.RUNNING}
    for number, (name, state) in enumerate(states.items(), 1):
        execution = Execution(type_id=kind, last_known_state=state)
        context = proto.Context(type_id=node, name=f"{folders.pipeline_name}.{name}")
        assert store.put_execution(execution, [], [context])[0] == number
        for path in (f"examples/{number}", f".system/executor_execution/{number}"):
            (folders.pipeline / name / path).mkdir(parents=True)
            (folders.pipeline / name / path / "file").touch()
    return folders


def _states(folders):
    steps = Lineage(folders.metadata, folders.pipeline_name).latest_steps()
    return {step.component: step.state for step in steps}


def test_what_a_killed_process_left_is_removed(folders):
    def close():
        return abandoned.close(folders.metadata, folders.pipeline_name, folders.pipeline)

    assert close() == ["Transform"] and close() == []
    assert _states(folders) == {"ExampleGen": "complete", "Transform": "canceled"}
    left = [path for path in folders.pipeline.rglob("file") if path.is_file()]
    assert {path.relative_to(folders.pipeline).parts[0] for path in left} == {"ExampleGen"}
    assert len(left) == 2


def _invoke(command, folders, *more):
    spec = write_twelve(folders.root.parent / "raw")
    words = [*more, "--dataset", str(spec), "--root", str(folders.root)]
    result = CliRunner().invoke(command, words)
    if isinstance(result.exception, InputError):
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return result.output


def test_status_tells_a_running_component_from_a_killed_one(folders):
    assert "Transform         killed" in _invoke(cli.status, folders)
    with locks.waiting(folders.lock):
        shown = _invoke(cli.status, folders)
    assert "Transform         running" in shown
    assert shown.splitlines()[-1].startswith("process ") and "runs the pipeline" in shown


def test_nothing_is_removed_while_the_pipeline_runs(folders):
    with locks.waiting(folders.lock):
        shown = []
        thread = threading.Thread(target=lambda: shown.append(_invoke(cli.clean, folders, "--yes")))
        thread.start()
        thread.join()
    assert shown[0].startswith("the pipeline of twelve: process ") and "is using it" in shown[0]
    assert folders.metadata.is_file() and folders.pipeline.is_dir()
    assert "removed" in _invoke(cli.clean, folders, "--yes")
    assert not folders.metadata.exists() and not folders.pipeline.exists()
