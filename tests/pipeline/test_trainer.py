"""The functions of the Trainer component, on artifacts in TFX's layout."""

import dataclasses
import json
import shutil

import pytest

from cmclrec_tf.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    ModelConfig,
    PretrainConfig,
    ServeConfig,
)
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import NUMERIC, Feature
from serving.contract import SIGNATURES

pytestmark = pytest.mark.pipeline

FEATURES = (Feature("group"), Feature("age", NUMERIC))
# Of a training from scratch, in their order.
STAGES = ("pretrain", "expert", "finetune")
CONFIG = Config(
    data=DataConfig(max_history=6),
    model=ModelConfig(width=8, latent=8, blocks=1, heads=1),
    pretrain=PretrainConfig(epochs=1, epoch_steps=1, batch_size=16),
    finetune=FinetuneConfig(epochs=1, epoch_steps=1, ema=0.0, batch_size=16),
    serve=ServeConfig(list_length=5),
)


@pytest.fixture
def fn_args(tmp_path):
    """Arguments as the Trainer's executor passes them."""
    from tfx.components.trainer.fn_args_utils import FnArgs

    from pipeline.trainer import custom_config

    def users(split, n):
        return [
            {
                "user_id": f"{split}{i}",
                "history": [f"i{(i + j) % 12}" for j in range(7)],
                "target": [f"i{(i + 7) % 12}"],
                "group": "ab"[i % 2],
                "age": 20.0 + i,
            }
            for i in range(n)
        ]

    prepared = tmp_path / "prepared"
    records = {"train": users("train", 32), "val": users("val", 8), "test": users("test", 4)}
    prepare_tables(records, FEATURES, prepared, max_history=6)
    assets = tmp_path / "graph" / "transform_fn" / "assets"
    shutil.copytree(prepared / "vocabularies", assets)
    custom = custom_config(CONFIG, FEATURES, "toy", sources="")
    return FnArgs(
        train_files=[str(prepared / "train" / "*")],
        eval_files=[str(prepared / "val" / "*")],
        transform_graph_path=str(tmp_path / "graph"),
        serving_model_dir=str(tmp_path / "model" / "Format-Serving"),
        model_run_dir=str(tmp_path / "logs"),
        custom_config=json.loads(json.dumps(custom)),
    )


def test_arguments_become_the_config_and_the_dataset(fn_args):
    from pipeline.trainer import inputs

    config, dataset = inputs(fn_args)
    assert config == CONFIG
    assert dataset.schema.items == 2 + 12
    group, age = dataset.schema.features
    assert (group.name, group.size) == ("group", 2 + 2)
    assert age.mean == pytest.approx(20 + 31 / 2)
    assert len(dataset.user_ids("val")) == 8


def test_a_task_that_does_not_see_its_gpus_fails(fn_args):
    from pipeline.trainer import GPUS, run_fn

    fn_args.custom_config[GPUS] = 2
    with pytest.raises(InputError, match="2 given, 0 seen by TensorFlow.*--build-arg GPU=1"):
        run_fn(fn_args)


@pytest.mark.slow
def test_it_resumes_after_a_crash_and_writes_a_model_and_logs(fn_args, tmp_path, monkeypatch):
    """Each start has new output folders, as with TFX."""
    from cmclrec_tf.callbacks import SaveEpochs
    from pipeline.trainer import run_fn
    from serving.c_api.session import SavedModelSession

    epochs, crashes = [], [False, True]

    def begin(self, epoch, logs=None):
        epochs.append((self.checkpoints.folder.name, epoch))
        if epochs[-1] == ("finetune", 1) and crashes.pop():
            raise InterruptedError

    monkeypatch.setattr(SaveEpochs, "on_epoch_begin", begin)
    config = fn_args.custom_config["config"]
    config["pretrain"]["epochs"] = config["finetune"]["epochs"] = 2
    root = tmp_path / "checkpoints"
    fn_args.custom_config["checkpoints"] = str(root)
    with pytest.raises(InterruptedError):
        run_fn(fn_args)
    assert epochs == [(stage, epoch) for stage in STAGES for epoch in (0, 1)]
    assert len(list(root.iterdir())) == 1

    epochs.clear()
    fn_args.serving_model_dir = str(tmp_path / "second" / "Format-Serving")
    fn_args.model_run_dir = str(tmp_path / "more-logs")
    run_fn(fn_args)
    assert epochs == [("finetune", 1)]
    assert list(root.iterdir()) == []
    with SavedModelSession(fn_args.serving_model_dir) as session:
        assert set(session.signatures) >= set(SIGNATURES)
    assert list((tmp_path / "more-logs").rglob("events.out.tfevents.*"))
    folders = sorted(path.name for path in (tmp_path / "second").iterdir())
    assert folders == ["Format-Serving", "Weights"]


@pytest.mark.slow
def test_it_starts_from_the_base_model_if_it_fits(fn_args, tmp_path, capsys):
    """The first training saves weights; the others start from them, or print why not."""
    from pipeline.trainer import run_fn

    base, log = fn_args.serving_model_dir, "events.out.tfevents.*"

    def stages(name, base_model=base):
        fn_args.base_model = base_model
        fn_args.serving_model_dir = str(tmp_path / name / "Format-Serving")
        fn_args.model_run_dir = str(tmp_path / name / "logs")
        run_fn(fn_args)
        assert (tmp_path / name / "Weights" / "weights.npz").is_file()
        folders = (tmp_path / name / "logs").iterdir()
        return sorted(stage.name for stage in folders if list(stage.rglob(log)))

    assert stages("model", base_model=None) == sorted(STAGES)
    assert capsys.readouterr().err.count("weights") == 0
    assert stages("warm") == ["expert", "finetune"]
    assert f"Stage 2 begins with the weights of {base}\n" in capsys.readouterr().err
    fn_args.custom_config["config"]["model"]["width"] = 4
    assert stages("narrow") == sorted(STAGES)
    message = (
        f"Trained from scratch, not from {base}: model.width=4: the weights to start from were "
    )
    assert f"{message}trained with 8." in capsys.readouterr().err
    assert stages("lost", str(tmp_path / "nowhere" / "Format-Serving")) == sorted(STAGES)
    assert "a model to start from has weights.npz in its folder" in capsys.readouterr().err


def test_checkpoints_in_a_remote_folder_are_refused():
    from pipeline.metadata.fingerprint import checkpoint_folder

    with pytest.raises(InputError, match="checkpoints need a local folder"):
        checkpoint_folder({"checkpoints": "gs://bucket/checkpoints"}, dataset=None)


def test_a_missing_vocabulary_is_named(fn_args, tmp_path):
    from pipeline.trainer import inputs

    (tmp_path / "graph" / "transform_fn" / "assets" / "group").unlink()
    with pytest.raises(InputError, match="group: the vocabulary file must exist"):
        inputs(fn_args)


def test_a_digest_is_in_the_cache_key_of_its_component(tmp_path):
    from pipeline.datasets import load_spec
    from pipeline.metadata.code_digests import CodeDigests
    from pipeline.pipeline import create_pipeline
    from tests.pipeline.toy_datasets import write_twelve

    spec = load_spec(write_twelve(tmp_path))

    def keys(digests):
        pipeline = create_pipeline(
            name="p",
            root=tmp_path,
            spec=spec,
            data_dir=tmp_path,
            config=dataclasses.replace(CONFIG, evaluate=EvaluateConfig(k=5, ks=(5,))),
            serving_dir=tmp_path,
            digests=digests,
        )
        return {c.id: str(sorted(c.exec_properties.items())) for c in pipeline.components}

    same = CodeDigests("a", "a", "a", "a", "a", "a")
    before = keys(same)
    assert before == keys(same)
    components = {
        "transform": "Transform",
        "gate": "DataGate",
        "trainer": "Trainer",
        "evaluator": "Evaluator",
        "validator": "ServingValidator",
        "card": "ModelCard",
    }
    for digest, component in components.items():
        after = keys(dataclasses.replace(same, **{digest: "b"}))
        assert [name for name in before if before[name] != after[name]] == [component]


@pytest.mark.parametrize(("warm", "max_drop"), [(False, 1.0), (True, 0.3)])
def test_the_config_decides_which_other_models_take_part(tmp_path, warm, max_drop):
    from pipeline.datasets import load_spec
    from pipeline.metadata.code_digests import CodeDigests
    from pipeline.pipeline import create_pipeline
    from tests.pipeline.toy_datasets import write_twelve

    finetune = dataclasses.replace(CONFIG.finetune, warm_start=warm)
    evaluate = EvaluateConfig(k=5, ks=(5,), max_drop=max_drop)
    pipeline = create_pipeline(
        name="p",
        root=tmp_path,
        spec=load_spec(write_twelve(tmp_path)),
        data_dir=tmp_path,
        config=dataclasses.replace(CONFIG, evaluate=evaluate, finetune=finetune),
        serving_dir=tmp_path,
        digests=CodeDigests("a", "a", "a", "a", "a", "a"),
    )
    nodes = {node.id: node for node in pipeline.components}
    base = nodes["Trainer"].inputs.get("base_model")
    assert ("WarmStart" in nodes) == (base is not None) == warm
    if warm:
        assert (base.producer_component_id, base.output_key) == ("WarmStart", "model")
    baseline = nodes["Evaluator"].inputs.get("baseline_model")
    assert ("Baseline" in nodes) == (baseline is not None) == (max_drop < 1)


def test_another_config_is_another_cache_key():
    from pipeline.trainer import custom_config

    key = lambda config, sources: json.dumps(custom_config(config, FEATURES, "toy", sources))
    assert key(CONFIG, "a") == key(CONFIG, "a")
    assert key(CONFIG, "a") != key(CONFIG, "b")
    assert key(CONFIG, "a") != key(dataclasses.replace(CONFIG, seed=1), "a")
