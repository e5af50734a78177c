"""Trains on prepared datasets until early stopping, and says how long it takes and how good it is.

Each way to compute (precision, with XLA or not) trains every dataset from scratch. The figures are
written after each training, so a run that is cut short leaves what it has.

    cmclrec prepare movielens-1m --out var/ml-1m
    python -m benchmarks.time_to_quality var/ml-1m --precision float32 mixed_bfloat16
    python -m benchmarks.time_to_quality var/loo --preset leave-one-out --alone
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import time
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import keras

    from cmclrec_tf import Config
    from cmclrec_tf.data.prepared import PreparedDataset

_METRICS = ("ndcg@10", "recall@10", "ndcg@20", "recall@20", "log_likelihood")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", help="Prepared datasets.")
    parser.add_argument("--preset", default="default", help="Preset of the settings.")
    parser.add_argument("--alone", action="store_true", help="Train the backbone alone.")
    parser.add_argument("--precision", nargs="+", default=["float32"], help="Dtype policies.")
    parser.add_argument("--jit-compile", nargs="+", default=["auto"], help="auto, always, never.")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="Further settings."
    )
    parser.add_argument("--seconds", type=float, help="Start no training after this many.")
    parser.add_argument("--out", default="var/time_to_quality.json", help="JSON file of figures.")
    arguments = parser.parse_args()
    changes = {
        name: yaml.safe_load(value) for name, _, value in (s.partition("=") for s in arguments.set)
    }
    out, start = pathlib.Path(arguments.out), time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    figures: list[dict[str, Any]] = []
    # By way first: a run that is cut short has all datasets by the first way.
    for precision, jit_compile, folder in itertools.product(
        arguments.precision, arguments.jit_compile, arguments.folders
    ):
        if arguments.seconds and time.monotonic() - start > arguments.seconds:
            break
        way = {"compute.precision": precision, "compute.jit_compile": jit_compile}
        figures.append(measured(folder, arguments.preset, arguments.alone, {**changes, **way}))
        print(json.dumps(figures[-1]), flush=True)
        out.write_text(json.dumps(figures, indent=1))


def measured(folder: str, preset: str, alone: bool, changes: dict[str, Any]) -> dict[str, Any]:
    """Trains once and returns the figures: seconds, epochs and metrics.

    Args:
        folder: a prepared dataset.
        preset: name of the preset.
        alone: whether the backbone trains alone.
        changes: further settings, by their dotted names.
    """
    import cmclrec_tf as cm
    from benchmarks.machine import device_peak, forget_peak, gpu
    from cmclrec_tf import training
    from cmclrec_tf.callbacks import without_progress

    config, dataset = training.checked(cm.load(folder), cm.Config.preset(preset).changed(changes))
    forget_peak()
    with without_progress():
        stages, model = _alone(dataset, config) if alone else _both_stages(dataset, config)
    start = time.monotonic()
    rows = cm.evaluate(model, dataset).rows
    return {
        "data": folder,
        "preset": preset,
        "alone": alone,
        "changes": changes,
        "device": gpu() or "CPU",
        "stages": stages,
        "seconds": sum(stage["seconds"] for stage in stages.values()),
        "evaluation_seconds": time.monotonic() - start,
        "peak_mebibytes": device_peak(),
        "metrics": {
            segment: {name: float(row[name]) for name in _METRICS if name in row}
            for segment, row in rows.items()
        },
    }


def _both_stages(dataset: PreparedDataset, config: Config) -> tuple[dict[str, Any], keras.Model]:
    from cmclrec_tf import training

    start = time.monotonic()
    stage1 = training.pretrain(dataset, config)
    middle = time.monotonic()
    model = training.finetune(dataset, config, stage1.mapper)
    seconds = middle - start, time.monotonic() - middle
    names = "pretrain", "expert and finetune"
    fits = stage1.history, model.history
    return dict(zip(names, map(_stage, fits, seconds), strict=True)), model


def _alone(dataset: PreparedDataset, config: Config) -> tuple[dict[str, Any], keras.Model]:
    from cmclrec_tf import training

    start = time.monotonic()
    model = training.train_plain(dataset, config)
    return {"plain": _stage(model.history, time.monotonic() - start)}, model


def _stage(fit: keras.callbacks.History, seconds: float) -> dict[str, Any]:
    """Returns the figures of a stage: seconds, epochs, and what validation said after each."""
    validation = {name: v for name, v in fit.history.items() if name.startswith("val_ndcg")}
    return {"seconds": seconds, "epochs": len(fit.epoch), **validation}


if __name__ == "__main__":
    main()
