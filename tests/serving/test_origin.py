"""Tests that a version says which dataset and config it came from, and guards its base path."""

import json
import shutil

import pytest

from cmclrec_tf import Config
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature, Schema
from serving import versions
from serving.export import origin
from tests.serving.test_versions import run

SCHEMA = Schema((Feature("age", "numeric"), Feature("zip")), items=10, digest="abc")


@pytest.fixture
def model_of(tmp_path):
    """A function (dataset, config) -> a folder that looks like an export; None writes no origin."""

    def make(dataset, config=None):
        folder = tmp_path / f"model-of-{dataset}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"graph")
        if dataset:
            origin.write(folder, dataset, SCHEMA, config or Config.preset("paper"))
        return folder

    return make


def test_an_export_says_where_it_came_from(exported, dataset, config):
    source = origin.read(exported)
    assert source.dataset == dataset.name == "clusters"
    assert source.values["vocabularies"] == dataset.schema.digest
    assert source.values["features"] == {f.name: f.kind for f in dataset.schema.features}
    assert Config.from_dict(source.values["config"]) == config
    assert str(exported) not in (exported / origin.FILE).read_text()


def test_equal_models_have_equal_bytes(model_of):
    first = (model_of("shop") / origin.FILE).read_bytes()
    assert (model_of("shop") / origin.FILE).read_bytes() == first
    assert json.loads(first)["preset"] == "paper"


def test_a_model_of_another_dataset_is_refused_unless_forced(model_of, tmp_path):
    base = tmp_path / "cmclrec"
    first, _ = versions.publish(model_of("shop"), base)
    versions.publish(model_of("shop"), base)
    with pytest.raises(InputError) as caught:
        versions.publish(model_of("films"), base)
    assert "'films'" in str(caught.value) and "'shop'" in str(caught.value)
    assert len(versions.available(base)) == 2
    versions.publish(model_of("films"), base, force=True)
    versions.publish(model_of("films"), base)
    # After a rollback the base path is the shop's again.
    versions.roll_back(base, to=first)
    with pytest.raises(InputError, match="'films'.* 'shop'"):
        versions.publish(model_of("films"), base)


def test_models_that_do_not_say_where_they_came_from_pass(model_of, tmp_path):
    base = tmp_path / "cmclrec"
    for dataset in ("shop", None, "films", None):
        versions.publish(model_of(dataset), base)
    assert len(versions.available(base)) == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[1]",
        "{}",
        '{"dataset": 3}',
        '{"dataset": "a\\u001b[2Jb"}',
        '{"dataset": "a", "preset": "b\\u001b[2J"}',
        "[" * 100_000,
        '{"dataset": "\\ud800"}',
    ],
)
def test_a_damaged_file_is_as_none(model_of, tmp_path, text):
    folder = model_of("shop")
    (folder / origin.FILE).write_text(text)
    assert origin.read(folder) is None
    (folder / origin.FILE).write_bytes(b"\xff\xfe")
    assert origin.read(folder) is None


def test_commands(model_of, tmp_path):
    base = tmp_path / "cmclrec"
    changed = Config.from_dict({"pretrain": {"epochs": 7}})
    for number, folder in (
        (5, model_of(None)),
        (6, model_of("shop")),
        (1795688615, model_of("films", changed)),
    ):
        shutil.copytree(folder, base / str(number))
    lines = run(base, "list").output.splitlines()
    assert lines[0].startswith("1795688615  newest  films, config ")
    assert lines[0].endswith("  pushed 2026-11-26 10:23 UTC")
    assert lines[1:] == ["6  shop, preset paper", "5"]
    versions.roll_back(base)
    assert run(base, "list").output.splitlines()[2].startswith("1795688615  rolled back  films, ")
    shown = json.loads(run(base, "show", 1795688615).output)
    assert shown["config"]["pretrain"]["epochs"] == 7
    for version, text in ((5, "must hold this file"), (9, "there are [5, 6, 1795688615]")):
        done = run(base, "show", version)
        assert done.exit_code == 2 and text in done.output
