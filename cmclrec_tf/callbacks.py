"""Callbacks of the fits: progress, checkpoints, embeddings for TensorBoard."""

import math
import pathlib
import sys

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from cmclrec_tf.checkpoints import model_state
from cmclrec_tf.data import vocabulary
from cmclrec_tf.schema import FIRST_ID, ITEMS


class Progress(keras.callbacks.Callback):
    """A bar over the epochs, with the chosen logs behind it.

    Args:
        title: in front of the bar.
        names: the logs that are shown.
    """

    def __init__(self, title, *names):
        super().__init__()
        self.title, self.names, self.bar = title, names, None

    def on_train_begin(self, logs=None) -> None:
        # Off a terminal one line every few seconds is enough.
        pause = 0.2 if sys.stderr.isatty() else 10
        self.bar = tqdm(
            total=self.params["epochs"], desc=self.title, unit="epoch", mininterval=pause
        )

    def on_epoch_end(self, epoch, logs=None) -> None:
        shown = {n: f"{float(logs[n]):.4f}" for n in self.names if n in (logs or {})}
        self.bar.set_postfix(shown, refresh=False)
        # A resumed training does not start at the first epoch.
        self.bar.update(epoch + 1 - self.bar.n)

    def on_train_end(self, logs=None) -> None:
        self.bar.close()


class Averaged(keras.callbacks.SwapEMAWeights):
    """Between epochs the model holds the optimizer's moving averages instead of its weights.

    So early stopping keeps the averages, and a checkpoint holds the two in each other's place.

    Args:
        resumed: whether the fit starts from such a checkpoint.
    """

    def __init__(self, resumed=False):
        super().__init__(swap_on_epoch=True)
        self._ema_weights_in_model = resumed


class SaveEpochs(keras.callbacks.Callback):
    """Writes a checkpoint after every epoch; stands behind `stopping` in the list.

    Keras' BackupAndRestore leaves out the seeds' states and early stopping, and trusts its file.

    Args:
        checkpoints: `Checkpoints`.
        stopping: the fit's `EarlyStopping`, or None.
        resumed: (facts, arrays) of the checkpoint that the fit starts from, or None.
        writes: False in a worker that only takes up what the chief wrote.
    """

    def __init__(self, checkpoints, stopping=None, resumed=None, writes=True):
        super().__init__()
        self.checkpoints, self.stopping, self.resumed = checkpoints, stopping, resumed
        self.writes = writes

    def on_train_begin(self, logs=None) -> None:
        # EarlyStopping forgets what it knew when a fit begins, so this comes after it.
        if self.stopping and self.resumed:
            facts, arrays = self.resumed
            for name, value in facts["stopping"].items():
                setattr(self.stopping, name, value)
            best = [name for name in arrays if name.startswith("best/")]
            self.stopping.best_weights = [arrays[f"best/{i}"] for i in range(len(best))] or None

    def on_epoch_end(self, epoch, logs=None) -> None:
        if not self.writes or not math.isfinite((logs or {}).get("loss", 0.0)):
            return  # a training that went wrong is not worth going on with
        stopping, arrays = {}, model_state(self.model)
        if self.stopping:
            stopping = {n: getattr(self.stopping, n) for n in ("best", "best_epoch", "wait")}
            best = self.stopping.best_weights or []
            arrays |= {f"best/{i}": np.asarray(value) for i, value in enumerate(best)}
        self.checkpoints.save(
            epoch + 1, arrays, stopping=stopping, stopped=bool(self.model.stop_training)
        )


class Projector(keras.callbacks.Callback):
    """Embedding tables for TensorBoard's projector, each row under its name.

    `keras.callbacks.TensorBoard(embeddings_freq=...)` does not do: it looks at a model's direct
    layers only, and points the projector at a `.weights.h5` file, which the projector cannot read.
    So the tables are written as the projector's own text files.

    Args:
        folder: log folder of the stage.
        vocabularies: {name: path} of the dataset, see `Schema.vocabularies`.
        every: epochs between two writings; 0 writes at the end of the training only.
        most: rows of a table at most, the most frequent first: the projector runs in a browser.
    """

    def __init__(self, folder, vocabularies, every=0, most=10_000):
        super().__init__()
        self.folder, self.every, self.most = pathlib.Path(folder), every, most
        # Layers are named after what they embed.
        self.paths = {
            f"{name if name == ITEMS else f'{name}_values'}/embeddings": (name, path)
            for name, path in vocabularies.items()
        }

    def on_epoch_end(self, epoch, logs=None) -> None:
        if self.every and (epoch + 1) % self.every == 0:
            self.write()

    def on_train_end(self, logs=None) -> None:
        self.write()

    def write(self) -> None:
        """See `write_projector`; the files bear the names of the vocabularies."""
        tables = {}
        for weight in self.model.weights:
            found = self.paths.get("/".join(weight.path.split("/")[-2:]))
            if not found:
                continue
            name, path = found
            names = vocabulary.read(path)[: self.most]
            rows = ops.convert_to_numpy(weight)[FIRST_ID : FIRST_ID + len(names)]
            tables[name] = rows, names
        write_projector(self.folder, tables)


def write_projector(folder, tables) -> None:
    """Writes `<name>.tsv`, `<name>_names.tsv` and `projector_config.pbtxt`.

    Args:
        folder: made if need be; a log folder of TensorBoard.
        tables: {name: (vectors [n, D], n texts)}.
    """
    from tensorboard.plugins import projector  # on use: slow to import, and only for logs

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = projector.ProjectorConfig()
    for name, (rows, names) in tables.items():
        np.savetxt(folder / f"{name}.tsv", rows, fmt="%.6g", delimiter="\t")
        lines = "".join(text.replace("\t", " ") + "\n" for text in names)
        (folder / f"{name}_names.tsv").write_text(lines, "utf-8")
        entry = config.embeddings.add()
        entry.tensor_name, entry.tensor_path = name, f"{name}.tsv"
        entry.metadata_path = f"{name}_names.tsv"
    projector.visualize_embeddings(str(folder), config)
