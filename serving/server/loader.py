"""Loads a model version from disk into a `Servable`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cmclrec_tf.errors import InputError
from serving.c_api.session import SavedModelError, SavedModelSession
from serving.server.catalog import Servable
from serving.server.warmup_check import check_warmup

if TYPE_CHECKING:
    from serving.server.prometheus_metrics import Metrics
    from serving.server.server_options import Options


class Loader:
    """Loads versions and counts successes and failures.

    Args:
        options: thread pools, limits, and whether warmup requests are run.
        metrics: receives the counts.
    """

    def __init__(self, options: Options, metrics: Metrics):
        self._options, self._metrics = options, metrics

    def __call__(self, name: str, version: int, folder: str | os.PathLike[str]) -> Servable:
        """Returns the `Servable` of a folder after it has answered its warmup requests.

        Raises:
            InputError: TensorFlow cannot load the model, or it fails a warmup request.
        """
        try:
            servable = self._load(name, version, folder)
        except Exception:
            self._metrics.load(name, loaded=False)
            raise
        self._metrics.load(name, loaded=True)
        return servable

    def _load(self, name: str, version: int, folder: str | os.PathLike[str]) -> Servable:
        options = self._options
        try:
            session = SavedModelSession(
                folder,
                options.tensorflow_intra_op_parallelism,
                options.tensorflow_inter_op_parallelism,
            )
        except SavedModelError as error:
            raise InputError(
                folder, f"TensorFlow must be able to load it ({error})", "Export the model again."
            ) from error
        try:
            if options.enable_model_warmup:
                check_warmup(folder, session, options.limits)
        except BaseException:
            session.close()
            raise
        return Servable(name, version, session)
