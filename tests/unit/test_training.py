"""`train`: logs, errors, averages, and mixed precision."""

import dataclasses

import keras
import numpy as np
import pytest

from cmclrec_tf import baselines
from cmclrec_tf.baselines.feature_mlp import train_feature_mlp
from cmclrec_tf.baselines.training import train_baseline
from cmclrec_tf.config import Config
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError, TrainingError
from cmclrec_tf.evaluation import evaluate
from cmclrec_tf.models import CMCLRec
from cmclrec_tf.training import train
from tests.conftest import FEATURES, TINY, cluster_users, one_quick


def changed(config, **parts):
    new = {part: dataclasses.replace(getattr(config, part), **v) for part, v in parts.items()}
    return dataclasses.replace(config, **new)


def test_tensorboard_logs_both_stages(model_folder):
    folders = list((model_folder / "logs").iterdir())
    assert {folder.name for folder in folders} == {"pretrain", "finetune"}
    assert all(list(folder.rglob("events.out.tfevents.*")) for folder in folders)


@pytest.mark.usefixtures("eager")
def test_a_diverging_run_is_an_error_and_no_model(dataset, config):
    wild = changed(config, pretrain={"epochs": 0}, finetune={"learning_rate": 1e30, "epochs": 2})
    with pytest.raises(TrainingError, match="Lower finetune.learning_rate"):
        train(dataset, wild)


def test_no_validation_users(records, config, tmp_path):
    data = prepare_tables({"train": records["train"]}, FEATURES, tmp_path / "data", max_history=8)
    with pytest.raises(InputError, match="split 'val'"):
        train(data, config)


def test_a_longer_history_than_prepared(dataset, config):
    with pytest.raises(InputError, match="prepared with 8"):
        train(dataset, changed(config, data={"max_history": 9}))


@pytest.mark.slow
def test_the_papers_settings_fit_in_a_graph_that_compiles(dataset, records):
    """Flagged cold users (Eq. 12), last position, moving targets; read with a shorter history."""
    config = Config.from_dict(
        {
            **TINY,
            "data": {"max_history": 6},
            "model": {
                **TINY["model"],
                "positions": "last",
                "history_path": "mapped",
                "sequence": "either",
            },
            "pretrain": {"targets": "move", "reduction": "sum"},
            "finetune": {"cold_decay": 0.0, "distill": 0.0},
        }
    )
    model = CMCLRec(dataset.schema, config)
    batches = dataset.with_history(6).batches("train", 32)
    model(next(iter(batches)))
    model.compile(keras.optimizers.Adam(0.01), jit_compile=True)
    losses = model.fit(batches, epochs=2, verbose=0, callbacks=keras.callbacks.TerminateOnNaN())
    assert np.all(np.isfinite(losses.history["loss"]))
    assert int(model.epoch) == 1
    assert evaluate(model, dataset, ks=(5,)).rows["overall"]["users"] == 32


@pytest.mark.parametrize("policy", one_quick(["float32", "mixed_float16"], "float32"))
@pytest.mark.usefixtures("eager")
def test_the_model_keeps_the_averages(dataset, config, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        short = changed(config, pretrain={"epochs": 0}, finetune={"epochs": 1, "ema": 0.9})
        model = train(dataset, short)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    averages = [v for v in optimizer.variables if "average" in v.path]
    assert len(averages) == len(model.trainable_variables)
    for average, weight in zip(averages, model.trainable_variables, strict=True):
        np.testing.assert_allclose(average, weight, atol=1e-7)


@pytest.mark.usefixtures("eager")
def test_mixed_precision_learns_with_large_numbers(tmp_path):
    """Incomes or timestamps do not fit into float16 before they are standardised."""
    users = [{**u, "age": (u["age"] or 35.0) * 1e4} for u in cluster_users("u", 64, 1)]
    records = {"train": users, "val": users[:8], "test": users[8:16]}
    dataset = prepare_tables(records, FEATURES, tmp_path / "data", max_history=8)
    config = Config.from_dict(TINY)
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = CMCLRec(dataset.schema, config)
        batches = dataset.batches("train", 32)
        model(next(iter(batches)))
        before = model.get_weights()
        model.compile(keras.optimizers.Adam(0.01))
        losses = model.fit(batches, epochs=3, verbose=0).history["loss"]
        ages = np.asarray(model.mapper.tokens(next(iter(batches))["features"]))[:, 0]
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]
    moved = [np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True)]
    assert max(moved) > 0.01
    assert len(np.unique(ages, axis=0)) > 2  # not all users have the vector of a missing value


@pytest.fixture
def policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_weights_of_half_precision_are_refused(name, dataset, config, policy):
    policy(name)
    with pytest.raises(InputError, match=f"^dtype policy '{name}': .* Take 'mixed_{name}'"):
        train(dataset, config)


def test_baselines_train_in_full_precision_only(dataset, config, policy):
    policy("mixed_bfloat16")
    for name in baselines.names():
        with pytest.raises(InputError, match=f"^{name} under the dtype policy 'mixed_bfloat16'"):
            train_baseline(name, dataset, config)
    with pytest.raises(InputError, match="^features-mlp under"):
        train_feature_mlp(dataset)


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_bfloat16_trains_both_stages_and_the_lists_survive_a_file(
    dataset, config, policy, tmp_path
):
    policy("mixed_bfloat16")
    short = changed(config, pretrain={"epochs": 1}, finetune={"epochs": 1})
    model = train(dataset, short, checkpoint_dir=tmp_path / "checkpoints")
    rows = evaluate(model, dataset, ks=(5,)).rows
    model.save(tmp_path / "model.keras")
    policy("float32")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.compute_dtype == "bfloat16"
    assert all(np.all(np.isfinite(weight)) for weight in again.get_weights())
    assert evaluate(again, dataset, ks=(5,)).rows == rows
    batch = next(iter(dataset.batches("test", 32)))
    # The special ids and the masks keep their scores, which float16 cannot hold.
    scores = np.asarray(again.score(again.warm_states(batch["history"])))
    assert scores.dtype == np.float32 and np.all(scores[:, :2] == np.float32(-1e9))
