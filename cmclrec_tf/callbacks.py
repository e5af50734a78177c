"""Progress of a fit: one bar a stage, not one a epoch."""

import sys

import keras
from tqdm import tqdm


class Progress(keras.callbacks.Callback):
    """A bar over the epochs, with the chosen logs behind it.

    Args:
        title: in front of the bar.
        names: the logs that are shown.
    """

    def __init__(self, title, *names):
        super().__init__()
        self.title, self.names, self.bar = title, names, None

    def on_train_begin(self, logs=None):
        # Off a terminal one line every few seconds is enough.
        pause = 0.2 if sys.stderr.isatty() else 10
        self.bar = tqdm(
            total=self.params["epochs"], desc=self.title, unit="epoch", mininterval=pause
        )

    def on_epoch_end(self, epoch, logs=None):
        shown = {n: f"{float(logs[n]):.4f}" for n in self.names if n in (logs or {})}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def on_train_end(self, logs=None):
        self.bar.close()
