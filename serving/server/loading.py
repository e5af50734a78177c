"""A version's folder to what answers."""

from cmclrec_tf.errors import InputError
from serving.c_api.session import SavedModelError, SavedModelSession
from serving.server import rehearsal
from serving.server.catalog import Servable


class Loader:
    """Loads versions the same way.

    Args:
        options: `Options`.
        metrics: `Metrics`.
    """

    def __init__(self, options, metrics):
        self._options, self._metrics = options, metrics

    def __call__(self, name, version, folder):
        """The `Servable` of a folder, once it has answered its warmup requests.

        Raises:
            InputError: TensorFlow cannot load it, or it does not answer them.
        """
        try:
            servable = self._load(name, version, folder)
        except Exception:
            self._metrics.load(name, loaded=False)
            raise
        self._metrics.load(name, loaded=True)
        return servable

    def _load(self, name, version, folder):
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
                rehearsal.rehearse(folder, session, options.limits)
        except BaseException:
            session.close()
            raise
        return Servable(name, version, session)
