"""Trains the two towers in a process of its own, and recommends with their parameters.

TensorFlow Recommenders needs Keras 2, which cannot share a process with the models of this
library. The two processes exchange plain arrays in a temporary folder.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmclrec_tf.errors import ReadableError
from cmclrec_tf.processes.whole import write_npz
from cmclrec_tf.schema import FIRST_ID, Schema
from experiments.two_tower import tower_config, tower_inputs
from experiments.two_tower.tower_config import DATA, PARAMETERS, SETTINGS, TwoTowerConfig
from experiments.two_tower.tower_inputs import Floats, Slots
from serving.retrieval import LEGACY

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.types import IdsBK, Users


class TwoTower:
    """Recommends with the parameters of two trained towers.

    Args:
        schema: `Schema` of the dataset.
        settings: `TwoTowerConfig` of the training.
        parameters: `{name: array}` as `tower_training` writes them.
    """

    has_logits = True

    def __init__(
        self, schema: Schema, settings: TwoTowerConfig, parameters: dict[str, NDArray[Any]]
    ) -> None:
        self.schema, self.settings = schema, settings
        self._parameters = {name: np.asarray(value) for name, value in parameters.items()}
        self.validation = {
            name.partition("/")[2]: float(value)
            for name, value in self._parameters.items()
            if name.startswith("validation/")
        }

    def states(self, batch: "Users") -> Floats:
        """Returns the queries, float32 [B, D]; the history of a cold user is not read."""
        features = {name: np.asarray(values) for name, values in batch["features"].items()}
        history = np.asarray(batch["history"])[:, -self.settings.max_history :]
        history = np.where(np.asarray(batch["is_cold"])[:, None], 0, history)
        tokens = self._tokens(tower_inputs.slots(features, self.schema))
        is_item = (history >= FIRST_ID)[:, :, None]
        total = (self._parameters["items"][history] * is_item).sum(axis=1)
        mean = total / np.maximum(is_item.sum(axis=1), 1)
        inputs = np.concatenate([tokens, mean, is_item.any(axis=1)], axis=1)
        hidden = np.maximum(inputs @ self._parameters["inner"] + self._parameters["inner_bias"], 0)
        states: Floats = hidden @ self._parameters["outer"] + self._parameters["outer_bias"]
        return states.astype(np.float32)

    def logits(self, batch: "Users") -> Floats:
        """Returns the logarithm of each item's share, up to a constant, float32 [B, V].

        An item of no pair has the share of half a pair, as `Popularity` gives it half an event.
        """
        scores, counts = self._scores(batch), self._parameters["counts"]
        total = np.logaddexp.reduce(scores, axis=1, keepdims=True)
        half = total + np.log(0.5 / counts.sum())
        is_item = np.arange(len(counts)) >= FIRST_ID
        return np.where((counts == 0) & is_item, half, scores).astype(np.float32)

    def recommend(self, batch: "Users", k: int) -> "IdsBK":
        """Returns ids [B, K], best first."""
        from cmclrec_tf.models import ranking

        return ranking.recommend(self._scores(batch), batch, k, self.settings.hides_history)

    def _scores(self, batch: "Users") -> Floats:
        """Returns the scores of the items that the towers have been trained on, [B, V]."""
        from cmclrec_tf.layers.masking import MASKED_SCORE

        scores = self.states(batch) @ self._parameters["items"].T
        return np.where(self._parameters["counts"] > 0, scores, MASKED_SCORE).astype(np.float32)

    def _tokens(self, slots: Slots) -> NDArray[Any]:
        """Returns the embeddings of all features side by side, [B, M x feature_width]."""
        members = slots.fields[:, None] == np.arange(len(self.schema.features))
        weighted = self._parameters["slots"][slots.ids] * slots.weights[:, :, None]
        tokens: NDArray[Any] = np.einsum("bsw,sm->bmw", weighted, members.astype(np.float32))
        return tokens.reshape(len(tokens), -1)


def train_two_tower(dataset: "PreparedDataset", settings: TwoTowerConfig | None = None) -> TwoTower:
    """Trains the two towers and keeps the parameters with the best validation NDCG.

    Args:
        dataset: `PreparedDataset` with train and validation users; both are read into memory.
        settings: `TwoTowerConfig`; None means the defaults.

    Raises:
        InputError: TensorFlow Recommenders is not installed.
        TowerError: the training failed; its messages are on standard error.
    """
    tower_config.check_installed()
    settings = settings or TwoTowerConfig()
    with tempfile.TemporaryDirectory(prefix="two-tower-") as name:
        folder = pathlib.Path(name)
        (folder / SETTINGS).write_text(json.dumps(dataclasses.asdict(settings)))
        with open(folder / DATA, "wb") as file:
            write_npz(file, tower_inputs.arrays(dataset, settings))
        _run(folder)
        with np.load(folder / PARAMETERS, allow_pickle=False) as parameters:
            return TwoTower(dataset.schema, settings, dict(parameters))


def _run(folder: pathlib.Path) -> None:
    command = [sys.executable, "-m", "experiments.two_tower.tower_training", str(folder)]
    # A device belongs to the process that trains the other rows; the towers are small.
    environment = {**os.environ, LEGACY: "1", "CUDA_VISIBLE_DEVICES": "-1"}
    with subprocess.Popen(command, env=environment) as process:
        try:
            process.wait()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise TowerError("The two towers could not be trained; the lines above say why.")


class TowerError(ReadableError):
    """The process that trains the two towers failed."""
