"""Rows: the config of each name, and the settings that its training depends on."""

import dataclasses

import pytest

from cmclrec_tf.config import Config
from cmclrec_tf.errors import InputError
from experiments import simple_rows, spaces, table_kinds
from experiments import table_rows as module
from experiments.table_rows import DEFAULT_ROWS, parse_rows
from tests.conftest import eagerly
from tests.experiments.toy import CONFIG


def test_each_row_has_its_own_preset():
    rows = {row.name: row for row in parse_rows(DEFAULT_ROWS, "my-data")}
    assert tuple(rows) == DEFAULT_ROWS
    assert rows["paper"].config == Config.preset("paper")
    default = rows["default"].config
    assert default == Config.preset("default")
    # A backbone alone is the one of its paper, without a prior.
    assert rows["sasrec"].config == default.changed({"model.popularity_prior": False})
    (with_prior,) = parse_rows(["sasrec:model.popularity_prior=true"], "my-data")
    assert with_prior.config == default and with_prior.kind == "backbone"
    assert [row.name for row in rows.values() if row.is_cmclrec] == ["paper", "default"]
    (tiny,) = parse_rows(["tiny"], "my-data")
    assert tiny.is_cmclrec and tiny.config == Config.preset("tiny")


def test_a_preset_of_the_dataset_wins(monkeypatch):
    names = []
    monkeypatch.setattr(module, "_presets", lambda: ["default", "default-toy", "paper"])
    monkeypatch.setattr(Config, "preset", lambda name: names.append(name) or Config())
    parse_rows(["popularity", "sasrec", "default"], "toy")
    assert names == ["default-toy"] * 3
    parse_rows(["paper"], "toy")
    assert names[3] == "paper"


def test_all_rows_of_a_dataset_agree_on_seen_items():
    names = [*DEFAULT_ROWS, "NoCL", "gru4rec", "heater", "tiny"]
    rows = parse_rows(names, "ta-feng")
    assert {row.config.evaluate.seen_items for row in rows} == {"keep"}
    assert {row.config.evaluate.seen_items for row in parse_rows(names, "my-data")} == {"mask"}
    paper = next(row for row in rows if row.name == "paper").config
    assert paper.finetune == Config.preset("paper").finetune
    # Any other setting that a preset of the dataset has is that preset's alone.
    assert Config.preset("default-ta-feng") == Config().changed({"evaluate.seen_items": "keep"})


def test_a_row_with_changes():
    name = "default:finetune.ema=0+model.history_path=mapped"
    row, plain = parse_rows([name, "sasrec:finetune.ema=0.5"], "my-data")
    config = Config.from_dict({"finetune": {"ema": 0}, "model": {"history_path": "mapped"}})
    assert (row.name, row.kind, row.config) == (name, "cmclrec", config)
    assert plain.kind == "backbone" and plain.config.finetune.ema == 0.5
    assert Config.preset("default").finetune.ema != 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("default:finetune.emu=0", "finetune.emu=0"),
        ("default:ema=0", "ema=0"),
        ("default:finetune.ema", "finetune.ema"),
        ("default:finetune.ema.x=1", "finetune.ema.x=1"),
        ("default:finetune.ema.x.y=1", "finetune.ema.x.y=1"),
        ("default:finetune.ema=2", "ema=2"),
        ("popularity:seed=1", "takes no config"),
        ("features-mlp:finetune.ema=0", "finetune.ema"),
        ("features-mlp-last:dropout=2", "dropout=2"),
    ],
)
def test_an_impossible_change_is_rejected(name, message):
    with pytest.raises(InputError, match=message):
        parse_rows([name], "my-data")


@pytest.mark.parametrize(
    "name", ["random", "popularity-last", "features-mlp", "two-tower", "sasrec", "default"]
)
def test_results_with_kept_history_are_stored_apart(name):
    kept = Config.from_dict({"evaluate": {"seen_items": "keep"}})
    (row,), (usual,) = (parse_rows([name], "my-data", c) for c in (kept, Config()))
    assert row.settings() != usual.settings()
    assert "seen_items" not in str(usual.settings())  # results without the setting stay valid


@pytest.mark.parametrize(("name", "dropout"), [("features-mlp-last", 0.3), ("two-tower-last", 0.2)])
def test_some_rows_have_their_own_settings(name, dropout):
    plain, changed = parse_rows([name, f"{name}:dropout=0.5"], "my-data")
    assert (plain.setting("dropout"), changed.setting("dropout")) == (dropout, 0.5)
    assert plain.settings() != {**changed.settings(), "row": plain.name}
    assert changed.setting("events") == "last"


@pytest.mark.parametrize("name", [*table_kinds.TABLE1.rows, *simple_rows.PEERS])
def test_every_tuned_setting_exists(name):
    (row,) = parse_rows([name], "my-data")
    values = spaces.space(row)
    assert bool(values) == (row.kind != "floor" or name.startswith("features-mlp"))
    for path, choices in values.items():
        # The first trial has the untuned value.
        assert row.setting(path) in choices
        for choice in choices:
            assert row.changed({path: choice}).setting(path) == choice


def test_a_run_is_a_salt_and_a_seed():
    (row,) = parse_rows(["paper"], "my-data")
    config = row.for_run(3).config
    assert (config.seed, config.data.salt, config.data.target) == (3, "3", "all")
    assert config.model == row.config.model


def test_rows_that_train_differently_have_different_settings():
    names = ["random", "features-mlp", "features-mlp-last", "two-tower", "two-tower-last"]
    names += ["sasrec", "default"]
    settings = [
        row.for_run(run).settings() for row in parse_rows(names, "my-data") for run in (0, 1)
    ]
    assert len({repr(each) for each in settings}) == len(settings)
    # The floors do not depend on the config of stage 2.
    config = Config.from_dict({"finetune": {"epochs": 3}})
    assert (
        parse_rows(["features-mlp"], "my-data", config)[0].settings()
        == parse_rows(["features-mlp"], "my-data")[0].settings()
    )


@pytest.mark.parametrize(
    ("change", "readers"),
    [
        ("finetune.distill=0.1", {"default"}),
        ("finetune.user_share=0.5", {"sasrec", "heater", "default"}),
        ("pretrain.user_share=0.5", {"default"}),
        ("model.mapper=NoDA", {"default"}),
        ("pretrain.epochs=3", {"default"}),
        ("evaluate.min_cold_coverage=3", set()),
        ("baseline.withheld=0.3", {"heater"}),
        ("model.blocks=1", {"sasrec", "default"}),
        ("finetune.softmax=full", {"sasrec", "default"}),
        ("finetune.negatives=64", {"sasrec", "heater", "default"}),
        ("finetune.feature_dropout=0.1", {"heater", "default"}),
        ("evaluate.k=10", {"sasrec", "heater", "default"}),
        ("finetune.ema=0.5", {"sasrec", "heater", "default"}),
        ("model.width=32", {"sasrec", "heater", "default"}),
        ("data.max_history=9", {"sasrec", "heater", "default"}),
    ],
)
@pytest.mark.parametrize("row", ["sasrec", "heater", "default"])
def test_a_row_is_trained_again_when_a_setting_it_reads_changes(row, change, readers):
    settings = []
    for name in (row, f"{row}:{change}"):
        (parsed,) = parse_rows([name], "my-data")
        settings.append({**parsed.for_run(0).settings(), "row": None})
    assert (settings[0] != settings[1]) == (row in readers)


def test_a_share_of_all_users_keeps_the_results_that_were_stored_without_it():
    for name in ("sasrec", "heater", "default"):
        (row,) = parse_rows([name], "my-data")
        config = row.settings()["config"]
        assert all("user_share" not in config.get(part, {}) for part in ("pretrain", "finetune"))


def test_rows_with_different_users_are_rejected(monkeypatch):
    configs = {"default": Config(), "paper": Config.from_dict({"data": {"min_events": 9}})}
    monkeypatch.setattr(Config, "preset", configs.get)
    with pytest.raises(InputError, match="min_events=9 of paper"):
        parse_rows(["default", "paper"], "my-data")


def test_an_ablation_is_the_default_with_another_mapper():
    (row,) = parse_rows(["NoDA"], "my-data")
    assert row.is_cmclrec and row.config.model.mapper == "NoDA"
    assert row.config == Config.from_dict({"model": {"mapper": "NoDA"}})


def test_the_settings_of_a_backbone_alone_are_those_that_its_training_reads(dataset, monkeypatch):
    """A setting that is left out of `read_by` would keep the results of another training."""
    (row,) = parse_rows(["sasrec"], "my-data", Config.from_dict(CONFIG))
    kept = row.settings()["config"]
    with eagerly(), monkeypatch.context() as patch:
        read = {part: _recorded(patch, part) for part in ("model", "finetune")}
        row.train(dataset)
    for part, names in read.items():
        assert names <= kept[part].keys() | {"user_share", "popularity_prior", "times"}, part
    # Others only cost a training that is not needed.
    assert {name for part in read for name in kept[part].keys() - read[part]} == {"warm_start"}


def _recorded(patch, part):
    """Returns the set of the fields of a part of the config that are read from now on."""
    cls = type(getattr(Config(), part))
    fields, names = {field.name for field in dataclasses.fields(cls)}, set()

    def read(config, name):
        if name in fields:
            names.add(name)
        return object.__getattribute__(config, name)

    patch.setattr(cls, "__getattribute__", read, raising=False)
    return names


def test_a_row_with_times_has_results_of_its_own():
    plain, timed = parse_rows(["hstu", "hstu:model.times=true"], "my-data")
    of_plain, of_timed = (row.settings()["config"]["model"] for row in (plain, timed))
    assert "times" not in of_plain and of_timed["times"] is True
