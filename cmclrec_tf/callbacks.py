"""Keras callbacks of the fits: progress, averages, checkpoints, embeddings for TensorBoard."""

import contextlib
import contextvars
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops
from tqdm import tqdm

from cmclrec_tf.checkpoints import Checkpoint, Checkpoints, model_state
from cmclrec_tf.data import vocabulary
from cmclrec_tf.layers.feature_encoder import table_rows
from cmclrec_tf.models.prior_fit import ValidationUsers
from cmclrec_tf.schema import FIRST_ID, ITEMS

Logs: TypeAlias = dict[str, Any] | None

if TYPE_CHECKING:
    from cmclrec_tf.data.prepared import PreparedDataset

    # tqdm ships no types.
    Bar: TypeAlias = Any


# Mean log-likelihood of both segments after a fit of the popularity prior, see `LogLikelihood`.
LIKELIHOOD = "val_log_likelihood"
# Seconds between two lines about a fit where stderr is no terminal, and two changes of a bar.
LINES, BAR = 10.0, 0.2

_is_shown = contextvars.ContextVar("_is_shown", default=True)


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """Fits print no progress while this is active, for jobs whose logs nobody watches."""
    token = _is_shown.set(False)
    try:
        yield
    finally:
        _is_shown.reset(token)


class LogLikelihood(keras.callbacks.Callback):
    """Logs how likely the next items of validation users are, with the prior that suits them best.

    `val_log_likelihood` is the mean of those of both segments, `val_log_likelihood_warm` and
    `_cold`. It moves far less by chance than an NDCG. Put the callback in front of those that read
    it, and behind `Averaged`.

    Args:
        dataset: `PreparedDataset` with validation users.
    """

    def __init__(self, dataset: "PreparedDataset") -> None:
        super().__init__()
        self.dataset = dataset

    def on_train_begin(self, logs: Logs = None) -> None:
        self._users = ValidationUsers(self.model, self.dataset)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        values = self._users.log_likelihoods()
        if logs is not None and values:
            logs |= {f"{LIKELIHOOD}_{segment}": value for segment, value in values.items()}
            logs[LIKELIHOOD] = sum(values.values()) / len(values)


class Progress(keras.callbacks.Callback):
    """Shows how far a fit is: a bar on a terminal, else a line every few seconds.

    A line says when the graph of the first step is built, which can take as long as many epochs.

    Args:
        title: stands in front of the bar or line.
        names: names of the logs to show.
    """

    bar: "Bar"

    def __init__(self, title: str, *names: str) -> None:
        super().__init__()
        self.title, self.names = title, names

    def on_train_begin(self, logs: Logs = None) -> None:
        self._is_shown, self._is_traced = _is_shown.get(), False
        self._start = self._printed = time.monotonic()
        self._epoch, self._unseen = 0, ""
        # Created with the first results, as lines that are printed before would tear it apart.
        self.bar = None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        if not self._is_traced and self._is_shown:
            line = f"{self.title}: building the graph of the first step ..."
            print(line, file=sys.stderr, flush=True)
        self._is_traced = True

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        # The logs of a step are not read: that would wait for the device.
        if self._is_due():
            steps = self.params.get("steps")
            self._show(self._epoch + 1, f"step {batch + 1}" + (f"/{steps}" if steps else ""))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch + 1
        shown = (name for name in self.names if logs and name in logs)
        self._unseen = ", ".join(f"{name}={float((logs or {})[name]):.4f}" for name in shown)
        if sys.stderr.isatty() or self._is_due():
            self._show(self._epoch, self._unseen)

    def on_train_end(self, logs: Logs = None) -> None:
        if self._unseen:
            self._show(self._epoch, self._unseen)
        if self.bar is not None:
            self.bar.close()

    def _is_due(self) -> bool:
        pause = BAR if sys.stderr.isatty() else LINES
        return time.monotonic() - self._printed >= pause

    def _show(self, epoch: int, text: str) -> None:
        if not self._is_shown:
            return
        self._printed, self._unseen = time.monotonic(), ""
        epochs = self.params["epochs"]
        if not sys.stderr.isatty():
            seconds = self._printed - self._start
            line = f"{self.title}: epoch {epoch}/{epochs}, {text}, {seconds:.0f} s"
            print(line, file=sys.stderr, flush=True)
            return
        if self.bar is None:
            self.bar = tqdm(total=epochs, desc=self.title, unit="epoch", mininterval=BAR)
        self.bar.set_postfix_str(text, refresh=False)
        # A resumed training does not start at the first epoch.
        self.bar.update(self._epoch - self.bar.n)
        if self._epoch < epoch:
            self.bar.refresh()  # within an epoch nothing else draws the bar


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
        self.vocabularies = dict(vocabularies)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.every and (epoch + 1) % self.every == 0:
            self.write()

    def on_train_end(self, logs: Logs = None) -> None:
        self.write()

    def write(self) -> None:
        """Writes the tables by `write_projector`, under the names of the vocabularies."""
        rows = table_rows(self.model.schema.features)
        of_features = {name: rows[name].start for name in self.vocabularies if name in rows}
        known = {"items/embeddings": {ITEMS: 0}, "tokens/table/embeddings": of_features}
        tables: dict[str, tuple[npt.NDArray[Any], Sequence[str]]] = {}
        for path, starts in known.items():
            # The first one: the mapper's, not the expert's.
            weight = next((w for w in self.model.weights if w.path.endswith(path)), None)
            if weight is None:
                continue
            for name, start in starts.items():
                tokens = vocabulary.read(self.vocabularies[name])[: self.most]
                first = start + FIRST_ID
                vectors = ops.convert_to_numpy(weight[first : first + len(tokens)])
                tables[name] = vectors, tokens
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
