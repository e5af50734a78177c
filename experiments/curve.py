"""The curve over the train users: CMCLRec and its ablations, trained on shares of the users."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from cmclrec_tf.config import ABLATIONS
from cmclrec_tf.errors import InputError
from experiments import curve_report, run_table
from experiments.curve_report import FULL, Point
from experiments.run_folders import Folder
from experiments.run_table import Outcome, config_from_options
from experiments.table_kinds import OURS, Table
from experiments.table_rows import parse_rows
from pipeline.datasets import load_spec

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
VARIANTS = (FULL, *ABLATIONS)
# What stage 1 reads where stage 2 reads a share: the same share, or all train users.
SAME, ALL = "same", "all"


def run(
    dataset: str,
    *,
    shares: Sequence[float] = SHARES,
    stage1: str = SAME,
    model: str = OURS,
    runs: int = 5,
    data_dir: Folder | None = None,
    preset: str | None = None,
    config_path: Folder | None = None,
    root: Folder = "var",
    out: Folder | None = None,
    prepared: str | None = None,
    command: str | None = None,
) -> Outcome:
    """Trains each variant on each share of the train users and every run, and writes the curve.

    Args:
        dataset, runs, data_dir, preset, config_path, root, out, prepared: the options of
            `cmclrec experiment`, see `experiments/cli.py`.
        shares: shares of the train users, in (0, 1].
        stage1: SAME or ALL.
        model: name of the CMCLRec row that is trained with each mapper.
        command: the command line, printed below the tables.

    Raises:
        InputError: a wrong share, dataset, model, config or folder.
        PrepareError: a dataset could not be prepared.
    """
    name = pathlib.Path(dataset).stem if prepared else load_spec(dataset).name
    (row,) = parse_rows([model], name, config_from_options(preset, config_path))
    if not row.is_cmclrec:
        raise InputError(
            f"model {row.name!r}",
            "only CMCLRec has parts to leave out",
            "Give a preset, such as default, by --model.",
        )
    points = points_of(model, row.config.model.mapper, shares, stage1)
    suffix = "" if stage1 == SAME else f"-stage1-{stage1}"
    kind = Table(f"curve{suffix}", tuple(point.row for point in points))
    return run_table.run(
        dataset,
        kind,
        data_dir=data_dir,
        preset=preset,
        config_path=config_path,
        runs=runs,
        root=root,
        out=out,
        prepared=prepared,
        command=command,
        write=functools.partial(curve_report.write, points=points, stage1=stage1),
    )


def parse_shares(text: str) -> tuple[float, ...]:
    """Reads shares of the train users, separated by commas.

    Raises:
        InputError: a share is no number in (0, 1], or stands there twice.
    """
    try:
        shares = tuple(float(share) for share in text.split(","))
    except ValueError:
        shares = ()
    if not shares or len(set(shares)) < len(shares) or not all(0 < s <= 1 for s in shares):
        raise InputError(
            f"--shares {text}",
            "it must hold different numbers in (0, 1], separated by commas",
            "Correct it.",
        )
    return shares


def points_of(model: str, mapper: str, shares: Sequence[float], stage1: str) -> list[Point]:
    """Returns the points of the curve, smallest share first.

    Their rows share results with other tables where these have them: the ablations on all users are
    rows of `table2`.

    Args:
        model: name of the CMCLRec row.
        mapper: its `model.mapper`.
        shares, stage1: see `run`.
    """
    points = []
    for share in sorted(shares):
        for variant in VARIANTS:
            point = Point(share, variant, model)
            if model == OURS and variant in ABLATIONS:
                point = dataclasses.replace(point, row=variant)
            elif variant != mapper:
                point = _changed(point, f"model.mapper={variant}")
            if share < 1:
                number = np.format_float_positional(share)  # YAML reads 1e-05 as a text
                if stage1 == SAME:
                    point = _changed(point, f"pretrain.user_share={number}")
                point = _changed(point, f"finetune.user_share={number}")
            points.append(point)
    return points


def _changed(point: Point, change: str) -> Point:
    """Returns the point with one more change in the name of its row."""
    return dataclasses.replace(point, row=f"{point.row}{'+' if ':' in point.row else ':'}{change}")
