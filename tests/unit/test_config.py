"""Configs and schemas: building, checking, YAML and presets."""

import dataclasses
import importlib.resources
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from cmclrec_tf import backbones
from cmclrec_tf.baselines.feature_mlp import FeatureMLPConfig
from cmclrec_tf.config import (
    BaselineConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    ServeConfig,
    checks,
    split_settings,
)
from cmclrec_tf.config.sections import BACKBONES
from cmclrec_tf.errors import InputError
from cmclrec_tf.models.cold_rows import keyed_uniform
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
    assert (paper.finetune.eta, paper.model.sequence) == (0.7, "either")
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
        ({"model": {"sequence": "some"}}, "must be one of"),
        ({"evaluate": {"k": 7}}, "it must hold k=7"),
        ({"evaluate": {"ks": ["a", 20]}}, r"evaluate\.ks\[0\]='a': it must be of type int"),
        ({"evaluate": {"ks": [0, 20]}}, "cuts are positive integers"),
        ({"evaluate": {"ks": [20, 10**9]}}, "at most 100000"),
        ({"evaluate": {"ks": []}}, "it must hold k=20"),
        ({"evaluate": {"slices": [3]}}, r"evaluate\.slices\[0\]=3: it must be of type str"),
        ({"evaluate": {"slices": ["a", "a"]}}, "a name must appear once"),
        ({"evaluate": {"max_drop": 1.5}}, r"max_drop=1.5: it must be in \[0, 1\]"),
        ({"evaluate": {"floors": "stop"}}, "floors='stop': it must be one of"),
        ({"data": {"min_events": 1}}, "min_events=1"),
        ({"data": {"split": "period"}}, "split='period': it must be one of"),
        ({"data": {"split_time": "7"}}, "split_time='7': only split='time' has a time"),
        ({"data": {"split": "time", "split_time": 7}}, "split_time=7: .* put it in quotes"),
        ({"data": []}, r"data=\[\]: it must be a mapping"),
        ([], r"config=\[\]: it must be a mapping"),
        ({"seed": 4294967296}, "seed=4294967296: it must lie between"),
        ({"seed": -1}, "seed=-1: it must be 0 or more"),
        ({"seed": 10**5000}, "seed=an integer of 16610 bits: it must lie between"),
        ({"model": {"backbone": "nosuch"}}, r"backbone='nosuch': it must be one of \['bert4rec', "),
        ({"model": {"width": 2**17, "heads": 1}}, "width=131072: it must be at most 65536"),
        ({"model": {"dropout": 0.99999999999}}, r"dropout=0.99999999999: it must be in \[0, 1\)"),
        ({"pretrain": {"temperature": 1e-300}}, "it must be positive in 32 bits"),
        ({"finetune": {"learning_rate": "1e-3"}}, "learning_rate='1e-3': it must be of type float"),
        ({"data": {"salt": "é" * 33}}, "at most 64 bytes"),
        ({"data": {"salt": "\ud800"}}, "at most 64 bytes"),
    ],
)
def test_a_bad_config_error_names_value_rule_and_fix(values, text):
    with pytest.raises(InputError, match=text) as error:
        Config.from_dict(values)
    assert "\n" not in str(error.value)


SECTIONS = (DataConfig, ModelConfig, PretrainConfig, FinetuneConfig, BaselineConfig)
NUMBERS = [
    (cls, field.name, type(field.default))
    for cls in (*SECTIONS, EvaluateConfig, ServeConfig, Config, FeatureMLPConfig)
    for field in dataclasses.fields(cls)
    if type(field.default) in (int, float)
]


@pytest.mark.parametrize(("cls", "name", "kind"), NUMBERS, ids=lambda value: str(value))
def test_no_number_is_nan_infinite_huge_negative_or_a_bool(cls, name, kind):
    nowhere = [math.nan, math.inf, -math.inf, 10**400, -1, True, "1", None, [1]]
    for value in [*nowhere, *([0.5, 1.0] if kind is int else [])]:
        with pytest.raises(InputError, match=f"^{name}=") as error:
            cls(**{name: value})
        assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_settings_of_the_split_do_not_name_a_time_that_is_not_set():
    data = dataclasses.asdict(DataConfig())
    earlier = {name: value for name, value in data.items() if name != "split_time"}
    assert split_settings(data) == split_settings(earlier)
    timed = split_settings({**data, "split": "time", "split_time": "7"})
    assert timed == {**split_settings(data), "split": "time", "split_time": "7"}


def test_numbers_of_numpy_become_pythons():
    config = ModelConfig(width=np.int64(32), dropout=np.float32(0.5), latent=np.uint8(8))
    assert [type(v) for v in (config.width, config.dropout, config.latent)] == [int, float, int]
    assert type(FinetuneConfig(ema=0).ema) is float


def test_the_largest_seed_seeds_everything():
    largest = checks.LARGEST_INT
    keras.utils.set_random_seed(Config(seed=largest).seed + 1)
    generator = keras.random.SeedGenerator(largest + 1)
    assert np.isfinite(keras.random.uniform((2,), seed=generator)).all()
    records = tf.data.Dataset.range(3).shuffle(3, seed=largest)
    assert set(records.as_numpy_iterator()) == {0, 1, 2}
    keys = tf.constant([1, 2], tf.int64)
    assert np.isfinite(keyed_uniform(keys, tf.constant(1), largest)).all()
    shuffled = tf.random.experimental.stateless_shuffle(
        tf.range(3), seed=tf.stack([largest + 2**31, tf.constant(5, tf.int64)])
    )
    assert set(shuffled.numpy()) == {0, 1, 2}


def test_the_names_of_backbones_are_those_that_are_registered():
    assert set(backbones.names()) == BACKBONES


def test_a_backbone_is_a_name_of_a_config_once_it_is_registered():
    with pytest.raises(InputError, match="it must be one of"):
        ModelConfig(backbone="tests>mine")

    @backbones.register("tests>mine")
    class Mine(backbones.Backbone):
        pass

    try:
        assert ModelConfig(backbone="tests>mine").backbone in backbones.names()
    finally:
        BACKBONES.remove("tests>mine")
        del backbones.base._REGISTRY["tests>mine"]


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
        ({"name": "history"}, "reserved: it is a field of the user record"),
        ({"name": "self"}, "reserved: TensorFlow cannot call"),
        ({"name": "Self"}, "reserved"),
        ({"name": "class"}, "reserved: TensorFlow cannot export .* keyword of Python"),
        ({"name": "Exclude"}, "reserved: it is an input of the served signatures"),
        ({"name": "items"}, "reserved: it is the name of the item vocabulary"),
        ({"name": "a" * 101}, "at most 100"),
        ({"name": ""}, "a name is a letter"),
        ({"name": "_a"}, "a name is a letter"),
        ({"name": "größe"}, "a name is a letter"),
        ({"name": 7}, "a name is a letter"),
        ({"name": None}, "a name is a letter"),
        ({"name": "a", "kind": "numeric", "numbers": 10**9}, "numbers=1000000000"),
        ({"name": "a", "prefix": 2**40}, "prefix=1099511627776"),
        ({"name": "a b"}, "a name is a letter"),
        ({"name": "a", "kind": "text"}, "kinds are"),
        ({"name": "a", "kind": "numeric", "prefix": 2}, "prefix=2"),
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
    with pytest.raises(InputError, match="upper and lower case"):
        Schema((Feature("age"), Feature("Age")))


def test_schema_round_trip():
    schema = Schema((Feature("a", size=4), Feature("n", "numeric", mean=2.0)), items=9)
    assert Schema.from_dict(schema.to_dict()) == schema
    assert schema.vocabularies == ("items", "a")
