"""Wires the whole pipeline, from raw files to a pushed model."""

import json
import pathlib
from collections.abc import Callable, Sequence

from tfx.components import Trainer, Tuner
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration import metadata, pipeline
from tfx.proto import pusher_pb2, trainer_pb2
from tfx.types import Channel

from cmclrec_tf import schema
from cmclrec_tf.config import Config
from pipeline import trainer, tuner
from pipeline.components import blessed_before
from pipeline.components.evaluator import Evaluator
from pipeline.components.model_card import ModelCard
from pipeline.components.pusher import Pusher
from pipeline.components.serving_validator import ServingValidator
from pipeline.configs import RUN_FN
from pipeline.data import data_components
from pipeline.datasets import DatasetSpec
from pipeline.evaluation.gate import eval_config
from pipeline.metadata.code_digests import CodeDigests
from pipeline.storage.folders import AnyPath, is_remote

CHECKPOINTS = "checkpoints"


def create_pipeline(
    *,
    name: str,
    root: AnyPath,
    spec: DatasetSpec,
    data_dir: AnyPath,
    config: Config,
    serving_dir: AnyPath,
    digests: CodeDigests,
    metadata_path: pathlib.Path | None = None,
    run_fn: str = RUN_FN,
    beam_args: Sequence[str] = (),
    make_trainer: Callable[..., BaseNode] = Trainer,
    make_pusher: Callable[..., BaseNode] = Pusher,
    trials: int = 0,
    make_baseline: Callable[[Channel, int], BaseNode] = blessed_before.blessed_before,
    compare_drift: bool = True,
) -> pipeline.Pipeline:
    """Wires every component. The result depends on the arguments alone.

    Args:
        name: the pipeline's name in ML Metadata.
        root: folder of the artifacts, and of the checkpoints if it is local.
        spec: the dataset's spec.
        data_dir: folder of the raw files.
        config: the config of the run.
        serving_dir: model base path that blessed models are pushed to.
        digests: digests of the code, for the cache keys.
        metadata_path: sqlite file of ML Metadata; None leaves metadata to the runner, as for a job
            whose logs need no progress of the training.
        run_fn: import path of the function that trains.
        beam_args: options of Beam, as flags.
        make_trainer: makes the component that trains, from the arguments of TFX's Trainer.
        make_pusher: makes the component that pushes, from the arguments of TFX's Pusher.
        trials: number of trials of a Tuner before the Trainer; 0 leaves the Tuner out.
        make_baseline: makes the node that finds the model to compare with, see
            `blessed_before.blessed_before`.
        compare_drift: whether a curated schema may compare the data with those accepted last.

    Raises:
        InputError: the Evaluator cannot work with the config.
    """
    # Turns raw files into transformed user records.
    data = data_components(
        spec, data_dir, config, digests.transform, digests.gate, compare_drift=compare_drift
    )
    examples = data.example_gen.outputs["examples"]
    transform_graph = data.transform.outputs["transform_graph"]
    components = data.all

    # Finds the blessed model that training starts from.
    base_model = None
    if config.finetune.warm_start:
        warm_start = blessed_before.warm_start_model()
        base_model = warm_start.outputs["model"]
        components.append(warm_start)

    # Searches for better settings.
    settings = trainer.custom_config(
        config,
        spec.features,
        spec.name,
        digests.trainer,
        checkpoints=None if is_remote(root) else str(pathlib.Path(root) / CHECKPOINTS),
        shows_progress=metadata_path is not None,
    )
    training_data = {
        "examples": data.transform.outputs["transformed_examples"],
        "transform_graph": transform_graph,
        "train_args": trainer_pb2.TrainArgs(splits=[schema.TRAIN]),
        "eval_args": trainer_pb2.EvalArgs(splits=[schema.VAL]),
    }
    tuned = None
    if trials:
        search = Tuner(
            tuner_fn=tuner.TUNER_FN,
            custom_config={
                **settings,
                tuner.TRIALS: trials,
                tuner.MODULE: run_fn.rpartition(".")[0],
            },
            **training_data,
        )
        tuned = search.outputs["best_hyperparameters"]
        components.append(search)

    # Trains the model and exports it as a SavedModel.
    training = make_trainer(
        run_fn=run_fn,
        custom_config=settings,
        base_model=base_model,
        hyperparameters=tuned,
        **training_data,
    )
    model = training.outputs["model"]
    components.append(training)

    # Finds the last blessed model, which the new one is compared with.
    baseline_model = None
    if config.evaluate.max_drop < 1:
        baseline = make_baseline(model, max(config.evaluate.ks))
        baseline_model = baseline.outputs["model"]
        components.append(baseline)

    # Computes the metrics of the model and of popularity by segment, and blesses the model if it
    # meets the bounds of the gate.
    evaluator = Evaluator(
        examples=examples,
        model=model,
        baseline_model=baseline_model,
        transformed_examples=data.transform.outputs["transformed_examples"],
        transform_graph=transform_graph,
        eval_config=eval_config(config, spec.features, digests.evaluator),
        example_splits=[schema.TEST],
    )

    # Blesses the model if it loads and its signatures answer as promised.
    features = json.dumps(schema.Schema(spec.features).to_dict()["features"])
    validator = ServingValidator(
        model=model,
        examples=examples,
        transform_graph=transform_graph,
        features=features,
        list_length=config.serve.list_length,
        hides_history=int(config.evaluate.hides_history),
        sources=digests.validator,
    )

    # Describes the model, blessed or not.
    card = ModelCard(
        examples=examples,
        transform_graph=transform_graph,
        evaluation=evaluator.outputs["evaluation"],
        infra_blessing=validator.outputs["blessing"],
        dataset=json.dumps({key: getattr(spec, key) for key in ("name", "origin", "terms")}),
        config=json.dumps(config.to_dict()),
        features=features,
        sources=digests.card,
        tuned=tuned,
    )

    # Pushes the model to the model base path of a server if it is blessed twice.
    pusher = make_pusher(
        model=model,
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(serving_dir))
        ),
    )
    components += [evaluator, validator, card, pusher]

    return pipeline.Pipeline(
        pipeline_name=name,
        pipeline_root=str(root),
        components=components,
        enable_cache=True,
        metadata_connection_config=metadata_path
        and metadata.sqlite_metadata_connection_config(str(metadata_path)),
        beam_pipeline_args=list(beam_args),
    )
