"""The whole pipeline, from raw files to a pushed model."""

import json
import pathlib

from tfx.components import Evaluator, Trainer, Tuner
from tfx.orchestration import metadata, pipeline
from tfx.proto import pusher_pb2, trainer_pb2

from cmclrec_tf import schema
from pipeline import trainer, tuner
from pipeline.components import blessed_before
from pipeline.components.model_card import ModelCard
from pipeline.components.pusher import Pusher
from pipeline.components.serving_validator import ServingValidator
from pipeline.configs import RUN_FN
from pipeline.data import data_components
from pipeline.evaluation.gate import eval_config
from pipeline.storage.folders import is_remote

CHECKPOINTS = "checkpoints"


def create_pipeline(
    *,
    name,
    root,
    spec,
    data_dir,
    config,
    serving_dir,
    sources,
    metadata_path=None,
    run_fn=RUN_FN,
    beam_args=(),
    make_trainer=Trainer,
    make_pusher=Pusher,
    trials=0,
    make_baseline=blessed_before.blessed_before,
    compare_drift=True,
):
    """Wires every component; a pure function of its arguments.

    Args:
        name: the pipeline's name in ML Metadata.
        root: folder of its artifacts; the checkpoints of a local one lie in it, too.
        spec: the dataset's spec.
        data_dir: folder of the raw files.
        config: the `Config` of the run.
        serving_dir: model base path that blessed models are pushed to.
        sources: `configs.Sources`.
        metadata_path: sqlite file of ML Metadata; None leaves metadata to the runner.
        run_fn: import path of the function that trains.
        beam_args: options of Beam, as flags.
        make_trainer, make_pusher: the components that train and push, or what makes them of the
            same arguments.
        trials: of the Tuner, whose best settings the Trainer takes; 0 leaves it out.
        make_baseline: function that makes the node which finds what a model is compared with, see
            `blessed_before.blessed_before`.
        compare_drift: see `data_components`.

    Returns:
        `tfx.orchestration.pipeline.Pipeline`.

    Raises:
        InputError: a config that cannot be evaluated.
    """
    data = data_components(spec, data_dir, config, sources.transform, sources.gate, compare_drift)
    features = tuple(spec.features)
    described = json.dumps(schema.Schema(features).to_dict()["features"])
    starts = [blessed_before.start()] if config.finetune.warm_start else []
    learning = {
        "examples": data.transform.outputs["transformed_examples"],
        "transform_graph": data.transform.outputs["transform_graph"],
        "train_args": trainer_pb2.TrainArgs(splits=[schema.TRAIN]),
        "eval_args": trainer_pb2.EvalArgs(splits=[schema.VAL]),
    }
    custom = trainer.custom_config(
        config,
        features,
        spec.name,
        sources.trainer,
        checkpoints=None if is_remote(root) else str(pathlib.Path(root) / CHECKPOINTS),
    )
    tuning = []
    if trials:
        told = {**custom, tuner.TRIALS: trials}
        tuning = [Tuner(tuner_fn=tuner.TUNER_FN, custom_config=told, **learning)]
    tuned = tuning[0].outputs["best_hyperparameters"] if tuning else None
    training = make_trainer(
        base_model=starts[0].outputs["model"] if starts else None,
        hyperparameters=tuned,
        run_fn=run_fn,
        custom_config=custom,
        **learning,
    )
    compared = []
    if config.evaluate.max_drop < 1:
        compared.append(make_baseline(training.outputs["model"], max(config.evaluate.ks)))
    evaluator = Evaluator(
        examples=data.example_gen.outputs["examples"],
        model=training.outputs["model"],
        baseline_model=compared[0].outputs["model"] if compared else None,
        eval_config=eval_config(config, features, sources.evaluator),
        example_splits=[schema.TEST],
    )
    validator = ServingValidator(
        model=training.outputs["model"],
        examples=data.example_gen.outputs["examples"],
        transform_graph=data.transform.outputs["transform_graph"],
        features=described,
        list_length=config.serve.list_length,
        is_blended=int(config.serve.simulated_events > 0),
        sources=sources.validator,
    )
    card = ModelCard(
        examples=data.example_gen.outputs["examples"],
        transform_graph=data.transform.outputs["transform_graph"],
        evaluation=evaluator.outputs["evaluation"],
        infra_blessing=validator.outputs["blessing"],
        dataset=json.dumps({key: getattr(spec, key) for key in ("name", "origin", "terms")}),
        config=json.dumps(config.to_dict()),
        features=described,
        sources=sources.card,
        tuned=tuned,
    )
    pusher = make_pusher(
        model=training.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(serving_dir))
        ),
    )
    return pipeline.Pipeline(
        pipeline_name=name,
        pipeline_root=str(root),
        components=[
            *data.all,
            *starts,
            *tuning,
            training,
            *compared,
            evaluator,
            validator,
            card,
            pusher,
        ],
        enable_cache=True,
        metadata_connection_config=metadata_path
        and metadata.sqlite_metadata_connection_config(str(metadata_path)),
        beam_pipeline_args=list(beam_args),
    )
