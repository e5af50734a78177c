"""The Pusher's executor, run by itself."""

import pathlib

import pytest

pytestmark = pytest.mark.pipeline


@pytest.fixture
def push(tmp_path):
    """Pushes a model to a base path; the artifact that tells of it."""
    from tfx.proto import pusher_pb2
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from pipeline.components.pusher import Pusher

    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    serving = tmp_path / "model" / "Format-Serving"
    (serving / "variables").mkdir(parents=True)
    (serving / "saved_model.pb").write_bytes(b"graph")
    (serving / "variables" / "weights").write_bytes(b"weights")

    def pushed(base, blessed=True):
        artifact, blessing = standard_artifacts.PushedModel(), standard_artifacts.ModelBlessing()
        artifact.uri = str(tmp_path / "pushed")
        blessing.set_int_custom_property("blessed", int(blessed))
        destination = pusher_pb2.PushDestination()
        destination.filesystem.base_directory = str(base)
        Pusher.EXECUTOR_SPEC.executor_class().Do(
            {"model": [model], "model_blessing": [blessing]},
            {"pushed_model": [artifact]},
            {"push_destination": proto_utils.proto_to_json(destination)},
        )
        return artifact

    return pushed


def check(folder):
    assert (folder / "saved_model.pb").read_bytes() == b"graph"
    assert (folder / "variables" / "weights").read_bytes() == b"weights"


def test_a_blessed_model_is_pushed(push, tmp_path):
    base = tmp_path / "cmclrec"
    artifact = push(base)
    version = artifact.get_string_custom_property("pushed_version")
    folder = pathlib.Path(artifact.get_string_custom_property("pushed_destination"))
    assert artifact.get_int_custom_property("pushed") == 1
    assert folder == base / version and [p.name for p in base.iterdir()] == [version]
    check(folder)
    check(pathlib.Path(artifact.uri))
    # At once again: a number of its own, where TFX would have skipped the push.
    again = push(base).get_string_custom_property("pushed_version")
    assert int(again) > int(version)


def test_another_model_is_not(push, tmp_path):
    artifact = push(tmp_path / "cmclrec", blessed=False)
    assert artifact.get_int_custom_property("pushed") == 0
    assert not (tmp_path / "cmclrec").exists()


def test_a_push_that_fails_leaves_no_version(push, tmp_path, monkeypatch):
    from serving import versions

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(versions, "_write_through", full)
    with pytest.raises(OSError, match="No space"):
        push(tmp_path / "cmclrec")
    assert not list((tmp_path / "cmclrec").iterdir())


def test_a_remote_folder(push):
    """Written in place, by TFX: an object store knows no rename."""
    from tfx.dsl.io import fileio

    artifact = push("ram://bucket/cmclrec")
    folder = artifact.get_string_custom_property("pushed_destination")
    assert fileio.exists(f"{folder}/saved_model.pb")


def test_its_name_is_what_runs_are_found_by():
    from pipeline.components.pusher import Pusher

    assert Pusher.__name__ == "Pusher"
