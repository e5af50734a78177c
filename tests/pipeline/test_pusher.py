"""The executor of Pusher, run alone."""

import dataclasses
import json
import pathlib

import pytest

pytestmark = pytest.mark.pipeline


@pytest.fixture
def push(tmp_path):
    """A function that pushes a model to a base path and returns the PushedModel artifact."""
    from tfx import types
    from tfx.proto import pusher_pb2
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from pipeline.components.pusher import FORCE, Pusher

    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    serving = tmp_path / "model" / "Format-Serving"
    (serving / "variables").mkdir(parents=True)
    (serving / "saved_model.pb").write_bytes(b"graph")
    (serving / "variables" / "weights").write_bytes(b"weights")

    def run(base, blessed=True, dataset=None, force=False):
        if dataset:
            (serving / "assets.extra").mkdir(exist_ok=True)
            origin = serving / "assets.extra" / "cmclrec_origin.json"
            origin.write_text(json.dumps({"dataset": dataset}))
        artifact, blessing = standard_artifacts.PushedModel(), standard_artifacts.ModelBlessing()
        artifact.uri = str(tmp_path / "pushed")
        blessing.set_int_custom_property("blessed", int(blessed))
        destination = pusher_pb2.PushDestination()
        destination.filesystem.base_directory = str(base)
        component = Pusher(
            model=types.Channel(standard_artifacts.Model),
            push_destination=destination,
            custom_config={FORCE: True} if force else None,
        )
        Pusher.EXECUTOR_SPEC.executor_class().Do(
            {"model": [model], "model_blessing": [blessing]},
            {"pushed_model": [artifact]},
            {
                **component.exec_properties,
                "push_destination": proto_utils.proto_to_json(destination),
            },
        )
        return artifact

    return run


def assert_whole(folder):
    assert (folder / "saved_model.pb").read_bytes() == b"graph"
    assert (folder / "variables" / "weights").read_bytes() == b"weights"


def test_a_blessed_model_is_pushed(push, tmp_path):
    base = tmp_path / "cmclrec"
    artifact = push(base)
    version = artifact.get_string_custom_property("pushed_version")
    folder = pathlib.Path(artifact.get_string_custom_property("pushed_destination"))
    assert artifact.get_int_custom_property("pushed") == 1
    assert folder == base / version and [p.name for p in base.iterdir()] == [version]
    assert_whole(folder)
    assert_whole(pathlib.Path(artifact.uri))
    # A second push right away gets its own number; TFX alone would skip it.
    second = push(base).get_string_custom_property("pushed_version")
    assert int(second) > int(version)


def test_a_model_that_is_not_blessed_is_not_pushed(push, tmp_path):
    artifact = push(tmp_path / "cmclrec", blessed=False)
    assert artifact.get_int_custom_property("pushed") == 0
    assert not (tmp_path / "cmclrec").exists()


def test_a_push_that_fails_leaves_no_version(push, tmp_path, monkeypatch):
    from cmclrec_tf.errors import InputError
    from cmclrec_tf.processes import writing

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "sync", full)
    with pytest.raises(InputError, match="no space left on device.* Free some space"):
        push(tmp_path / "cmclrec")
    assert not list((tmp_path / "cmclrec").iterdir())


def test_a_model_of_another_dataset_is_refused_unless_forced(push, tmp_path):
    from cmclrec_tf.errors import InputError

    base = tmp_path / "cmclrec"
    push(base, dataset="shop")
    with pytest.raises(InputError, match="dataset 'films' .* of dataset 'shop'"):
        push(base, dataset="films")
    assert len(list(base.iterdir())) == 1
    assert push(base, dataset="films", force=True).get_int_custom_property("pushed") == 1


def test_a_remote_folder(push):
    """TFX writes a remote version in place, since an object store cannot rename a folder."""
    from tfx.dsl.io import fileio

    artifact = push("ram://bucket/cmclrec")
    folder = artifact.get_string_custom_property("pushed_destination")
    assert fileio.exists(f"{folder}/saved_model.pb")


def test_the_component_keeps_the_name_of_tfx():
    from pipeline.components.pusher import Pusher

    assert Pusher.__name__ == "Pusher"


def test_a_run_of_another_dataset_is_refused_before_it_starts(setting, tmp_path):
    from pipeline.commands import cli

    folder = tmp_path / "var" / "serving" / "cmclrec" / "5"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "assets.extra" / "cmclrec_origin.json").write_text('{"dataset": "shop"}')
    elsewhere = dataclasses.replace(setting, root=tmp_path / "var")
    for command in (cli.run, cli.quickstart):
        error = elsewhere.invoke(command).exception
        for text in ("dataset 'clusters'", "newest version, 5,", "dataset 'shop'", "--force-push"):
            assert text in str(error)
    assert not list((tmp_path / "var" / "pipelines" / "clusters").glob("[A-Z]*"))
