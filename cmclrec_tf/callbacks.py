"""Keras callbacks of the fits: progress, averages, checkpoints, embeddings for TensorBoard."""

import math
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops
from tqdm import tqdm

from cmclrec_tf.checkpoints import Checkpoint, Checkpoints, model_state
from cmclrec_tf.data import vocabulary
from cmclrec_tf.schema import FIRST_ID, ITEMS

Logs: TypeAlias = dict[str, Any] | None

if TYPE_CHECKING:
    # tqdm ships no types.
    Bar: TypeAlias = Any


class Progress(keras.callbacks.Callback):
    """Shows a progress bar over the epochs, followed by some of the logs.

    Args:
        title: stands in front of the bar.
        names: names of the logs to show.
    """

    bar: "Bar"

    def __init__(self, title: str, *names: str) -> None:
        super().__init__()
        self.title, self.names = title, names

    def on_train_begin(self, logs: Logs = None) -> None:
        # Where stderr is no terminal, one line every few seconds is enough.
        pause = 0.2 if sys.stderr.isatty() else 10
        self.bar = tqdm(
            total=self.params["epochs"], desc=self.title, unit="epoch", mininterval=pause
        )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        values = {n: f"{float(logs[n]):.4f}" for n in self.names if logs and n in logs}
        self.bar.set_postfix(values, refresh=False)
        # A resumed training does not start at the first epoch.
        self.bar.update(epoch + 1 - self.bar.n)

    def on_train_end(self, logs: Logs = None) -> None:
        self.bar.close()


class Averaged(keras.callbacks.SwapEMAWeights):
    """Swaps the weights for the optimizer's moving averages between epochs.

    Validation and early stopping thus see the averages. A checkpoint written between epochs holds
    the averages as the weights, and the weights as the averages.

    Args:
        resumed: whether the fit starts from such a checkpoint.
    """

    def __init__(self, resumed: bool = False) -> None:
        super().__init__(swap_on_epoch=True)
        # Private in Keras 3; no argument says that the averages are in the model already.
        self._ema_weights_in_model = resumed


class SaveEpochs(keras.callbacks.Callback):
    """Writes a checkpoint after every epoch. It must come after `stopping` in the list.

    `keras.callbacks.BackupAndRestore` omits the states of seeds and of early stopping, and does
    not check its file.

    Args:
        checkpoints: `Checkpoints`.
        stopping: the `EarlyStopping` of the fit, or None.
        checkpoint: the `Checkpoint` that the fit starts from, or None.
        writes: False for a worker that is not the chief: it restores, and writes nothing.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        stopping: keras.callbacks.EarlyStopping | None = None,
        checkpoint: Checkpoint | None = None,
        writes: bool = True,
    ) -> None:
        super().__init__()
        self.checkpoints, self.stopping, self.checkpoint = checkpoints, stopping, checkpoint
        self.writes = writes

    def on_train_begin(self, logs: Logs = None) -> None:
        # EarlyStopping resets its state when a fit begins, so it is restored after that.
        if self.stopping and self.checkpoint:
            facts, arrays = self.checkpoint
            for name, value in facts["stopping"].items():
                setattr(self.stopping, name, value)
            best = [name for name in arrays if name.startswith("best/")]
            self.stopping.best_weights = [arrays[f"best/{i}"] for i in range(len(best))] or None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if not self.writes or not math.isfinite((logs or {}).get("loss", 0.0)):
            return  # a training that has diverged is not worth resuming
        stopping, arrays = {}, model_state(self.model)
        if self.stopping:
            stopping = {n: getattr(self.stopping, n) for n in ("best", "best_epoch", "wait")}
            best = self.stopping.best_weights or []
            arrays |= {f"best/{i}": np.asarray(value) for i, value in enumerate(best)}
        self.checkpoints.save(
            epoch + 1, arrays, stopping=stopping, stopped=bool(self.model.stop_training)
        )


class Projector(keras.callbacks.Callback):
    """Writes embedding tables for TensorBoard's projector, with the name of each row.

    `keras.callbacks.TensorBoard(embeddings_freq=...)` cannot do this: it only looks at a model's
    direct layers, and points the projector at a `.weights.h5` file, which the projector cannot
    read. The tables are therefore written as the projector's own text files.

    Args:
        folder: log folder of the stage.
        vocabularies: {name: path} of the dataset, see `Schema.vocabularies`.
        every: epochs between two writes; 0 writes only at the end of the training.
        most: the number of rows of a table at most, the most frequent first; the projector runs in
            a browser.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        vocabularies: Mapping[str, str],
        every: int = 0,
        most: int = 10_000,
    ) -> None:
        super().__init__()
        self.folder, self.every, self.most = pathlib.Path(folder), every, most
        # Layers are named after what they embed.
        self.paths = {
            f"{name if name == ITEMS else f'{name}_values'}/embeddings": (name, path)
            for name, path in vocabularies.items()
        }

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.every and (epoch + 1) % self.every == 0:
            self.write()

    def on_train_end(self, logs: Logs = None) -> None:
        self.write()

    def write(self) -> None:
        """Writes the tables by `write_projector`, under the names of the vocabularies."""
        tables = {}
        for weight in self.model.weights:
            table = self.paths.get("/".join(weight.path.split("/")[-2:]))
            if not table:
                continue
            name, path = table
            tokens = vocabulary.read(path)[: self.most]
            rows = ops.convert_to_numpy(weight)[FIRST_ID : FIRST_ID + len(tokens)]
            tables[name] = rows, tokens
        write_projector(self.folder, tables)


def write_projector(
    folder: str | os.PathLike[str],
    tables: Mapping[str, tuple[npt.NDArray[Any], Sequence[str]]],
) -> None:
    """Writes `<name>.tsv`, `<name>_names.tsv` and `projector_config.pbtxt`.

    Args:
        folder: log folder of TensorBoard; created when it is missing.
        tables: {name: (vectors [n, D], n texts)}.
    """
    from tensorboard.plugins import projector  # slow to import, and needed for logs only

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = projector.ProjectorConfig()
    for name, (rows, texts) in tables.items():
        np.savetxt(folder / f"{name}.tsv", rows, fmt="%.6g", delimiter="\t")
        lines = "".join(text.replace("\t", " ") + "\n" for text in texts)
        (folder / f"{name}_names.tsv").write_text(lines, "utf-8")
        entry = config.embeddings.add()
        entry.tensor_name, entry.tensor_path = name, f"{name}.tsv"
        entry.metadata_path = f"{name}_names.tsv"
    projector.visualize_embeddings(str(folder), config)
