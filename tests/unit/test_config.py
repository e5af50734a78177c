"""Configs and schemas: building, checking, YAML and presets."""

import dataclasses
import importlib.resources

import pytest

from cmclrec_tf.config import Config, ModelConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature, Schema


def test_yaml_round_trip(tmp_path):
    config = Config.from_dict(
        {"seed": 3, "model": {"width": 32}, "evaluate": {"ks": [5, 20], "slices": ["job"]}}
    )
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert Config.from_yaml(path) == config


def test_presets_build():
    files = (importlib.resources.files("cmclrec_tf") / "presets").iterdir()
    names = [file.name.removesuffix(".yaml") for file in files]
    assert {"default", "paper", "tiny"} <= set(names)
    assert all(isinstance(Config.preset(name), Config) for name in names)


def test_the_paper_preset_holds_the_papers_numbers():
    paper = Config.preset("paper")
    assert (paper.model.width, paper.pretrain.learning_rate) == (64, 1e-4)
    assert (paper.pretrain.alpha, paper.pretrain.beta, paper.pretrain.cross) == (0.5, 0.5, 0.3)
    assert (paper.finetune.eta, paper.finetune.cold_rows) == (0.7, "flagged")
    assert (paper.model.positions, paper.model.history_path) == ("last", "mapped")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"modle": {}}, r"config\.modle: the keys"),
        ({"model": {"widht": 3}}, r"model\.widht: the keys"),
        ({"model": {"width": 0}}, "width=0: it must be positive"),
        ({"model": {"width": "64"}}, r"model\.width='64': it must be of type int"),
        ({"model": {"heads": 5}}, "heads=5: it must divide width=64"),
        ({"model": {"dropout": 1.0}}, r"dropout=1.0: it must be in \[0, 1\)"),
        ({"pretrain": {"mask_share": 0.6}}, "disjoint views need <= 0.5"),
        ({"finetune": {"cold_rows": "some"}}, "must be one of"),
        ({"evaluate": {"k": 7}}, "it must hold k=7"),
        ({"evaluate": {"ks": ["a", 20]}}, r"evaluate\.ks\[0\]='a': it must be of type int"),
        ({"evaluate": {"ks": [0, 20]}}, "cuts are positive integers"),
        ({"evaluate": {"slices": [3]}}, r"evaluate\.slices\[0\]=3: it must be of type str"),
        ({"evaluate": {"slices": ["a", "a"]}}, "a name must appear once"),
        ({"evaluate": {"max_drop": 1.5}}, r"max_drop=1.5: it must be in \[0, 1\]"),
        ({"data": {"min_events": 1}}, "min_events=1"),
        ({"data": []}, r"data=\[\]: it must be a mapping"),
    ],
)
def test_a_bad_config_error_names_value_rule_and_fix(values, text):
    with pytest.raises(InputError, match=text) as error:
        Config.from_dict(values)
    assert "\n" not in str(error.value)


def test_missing_file_unknown_preset_and_broken_yaml(tmp_path):
    with pytest.raises(InputError, match="must exist"):
        Config.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="presets are.*default"):
        Config.preset("best")
    (tmp_path / "latin.yaml").write_bytes("# caf\u00e9".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        Config.from_yaml(tmp_path / "latin.yaml")
    (tmp_path / "broken.yaml").write_text("model: {width: [")
    with pytest.raises(InputError, match="must be YAML"):
        Config.from_yaml(tmp_path / "broken.yaml")


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().width = 3


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"name": "history"}, "taken by the user record"),
        ({"name": "a b"}, "a name is a letter"),
        ({"name": "a", "kind": "text"}, "kinds are"),
        ({"name": "a", "kind": "numeric", "prefix": 2}, "prefix 2"),
    ],
)
def test_bad_features(values, text):
    with pytest.raises(InputError, match=text):
        Feature(**values)


def test_schema_needs_unique_features():
    with pytest.raises(InputError, match="at least one"):
        Schema(())
    with pytest.raises(InputError, match="unique"):
        Schema((Feature("a"), Feature("a")))


def test_schema_round_trip():
    schema = Schema((Feature("a", size=4), Feature("n", "numeric", mean=2.0)), items=9)
    assert Schema.from_dict(schema.to_dict()) == schema
    assert schema.vocabularies == ("items", "a")
