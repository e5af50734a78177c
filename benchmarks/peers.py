"""Runs the SASRec of other libraries on the benchmark's histories, from an environment of its own.

Three scripts train with the sizes of `Sizes`: RecBole's, a plain one by torch.compile, RecTools'.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
import subprocess
from typing import Any

import numpy as np

from benchmarks.performance_table import Row

PYTHON = pathlib.Path(".venv-peers/bin/python")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What all models of a comparison share: L, D, inner width, blocks, heads, dropout, B."""

    length: int
    width: int
    inner: int
    blocks: int
    heads: int
    dropout: float
    batch: int


@dataclasses.dataclass(frozen=True)
class Rate:
    """How fast a peer trains.

    Attributes:
        examples: users per second; None if the peer did not run.
        detail: the rate with the peer's name and version, or why it did not run.
    """

    examples: float | None
    detail: str

    def row(
        self,
        what: str,
        ours: float,
        detail: str = "",
        at_least: float | None = None,
        more: str = "",
    ) -> Row:
        """Returns the row of a ratio: `ours`, in examples per second, against this peer.

        Args:
            what: what is measured, and against what.
            ours: the rate of this project.
            detail: our rate as text; by default `ours` in examples per second.
            at_least: the target.
            more: text after both rates.
        """
        ratio = ours / self.examples if self.examples else None
        parts = (detail or f"{ours:,.0f}/s", self.detail, more)
        return Row(what, ratio, "x", at_least=at_least, detail="; ".join(filter(None, parts)))


def recbole(folder: pathlib.Path, rows: np.ndarray, sizes: Sizes, epochs: int) -> Rate:
    """Measures RecBole's SASRec: last position, full softmax, its own loader and trainer.

    Args:
        folder: an existing folder for the histories.
        rows: histories with their next items, [users, L + 1].
        sizes: the sizes of the model.
        epochs: number of epochs, at least 2.
    """
    data = folder / "benchmark"
    data.mkdir(exist_ok=True)
    header = "user_id:token\titem_id_list:token_seq\titem_id:token"
    lines = [f"u{n}\t{' '.join(map(str, row[:-1]))}\t{row[-1]}" for n, row in enumerate(rows)]
    for split in ("train", "valid", "test"):
        content = lines if split == "train" else lines[:64]
        (data / f"benchmark.{split}.inter").write_text("\n".join([header, *content, ""]))
    settings = {
        "hidden_size": sizes.width,
        "inner_size": sizes.inner,
        "n_layers": sizes.blocks,
        "n_heads": sizes.heads,
        "hidden_dropout_prob": sizes.dropout,
        "attn_dropout_prob": sizes.dropout,
        "train_batch_size": sizes.batch,
        "MAX_ITEM_LIST_LENGTH": sizes.length,
        "ITEM_LIST_LENGTH_FIELD": "item_length",
    }
    return _rate("RecBole", "recbole_sasrec.py", folder, len(rows), settings, epochs)


def torch_compile(folder: pathlib.Path, rows: np.ndarray, sizes: Sizes, epochs: int) -> Rate:
    """Measures a plain SASRec by torch.compile: last position, full softmax, data in memory.

    Args: as in `recbole`.
    """
    np.save(folder / "histories.npy", rows)
    settings = dataclasses.asdict(sizes)
    return _rate("torch.compile of PyTorch", "torch_sasrec.py", folder, len(rows), settings, epochs)


def rectools(folder: pathlib.Path, rows: np.ndarray, sizes: Sizes, epochs: int) -> Rate:
    """Measures RecTools' SASRec: every position, full softmax, its own loader and trainer.

    Args: as in `recbole`.
    """
    np.save(folder / "histories.npy", rows)
    settings = {
        "n_factors": sizes.width,
        "n_blocks": sizes.blocks,
        "n_heads": sizes.heads,
        "dropout_rate": sizes.dropout,
        "batch_size": sizes.batch,
        "session_max_len": sizes.length,
        "transformer_layers_kwargs": {"ff_factors_multiplier": sizes.inner // sizes.width},
    }
    return _rate("RecTools", "rectools_sasrec.py", folder, len(rows), settings, epochs)


def _rate(
    name: str,
    script: str,
    folder: pathlib.Path,
    users: int,
    settings: dict[str, Any],
    epochs: int,
) -> Rate:
    """Runs a script of this folder in the peers' environment and reads its last line, JSON."""
    if not PYTHON.exists():
        return Rate(None, f"{name} not installed: make {PYTHON.parents[1]}/.ready")
    path = pathlib.Path(__file__).with_name(script)
    command = [PYTHON.absolute(), path, folder, json.dumps(settings), "--epochs", epochs]
    process = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=folder, check=False
    )
    if process.returncode:
        raise RuntimeError(f"{name} failed: {process.stderr[-2000:]}")
    return _parsed(name, users, json.loads(process.stdout.splitlines()[-1]))


def _parsed(name: str, users: int, figures: dict[str, Any]) -> Rate:
    """Returns the rate of a script's figures: the users over the seconds of the median epoch.

    The first epoch, which compiles, does not count.

    Raises:
        RuntimeError: the peer learned nothing, or other users than it should.
    """
    if lack := figures.get("missing"):
        return Rate(None, f"{name} lacks {lack}")
    if figures["users"] != users:
        raise RuntimeError(
            f"{name} trained on {figures['users']} users, not on {users}. All models must train on "
            "the same users. Compare its settings with the data."
        )
    first, last = figures["first_loss"], figures["last_loss"]
    if not last < first:
        raise RuntimeError(
            f"{name}: loss {first} in the first epoch, {last} in the last. A peer must learn. "
            "Compare its settings with its version."
        )
    rate = users / statistics.median(figures["seconds"][1:])
    detail = f"{name} {figures['version']} {rate:,.0f}/s, loss {first:.2f} to {last:.2f}"
    return Rate(rate, detail)
