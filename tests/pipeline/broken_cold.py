"""Trains a model and then breaks its cold path."""

from cmclrec_tf.training import train
from pipeline.trainer import inputs
from serving.export.saved_model import export


def run_fn(fn_args):
    """Trains, sets the weights of the mapper's feature encoder to zero, and exports."""
    config, dataset = inputs(fn_args)
    model = train(dataset, config)
    for weight in model.mapper.auto_f.trainable_weights:
        weight.assign(weight * 0)
    export(model, dataset, fn_args.serving_model_dir, config)
