"""Keeps a catalog at the versions that should be served: watches folders, loads, swaps."""

import logging
import pathlib
import threading

from cmclrec_tf.errors import InputError, ReadableError
from serving import versions
from serving.server import served
from serving.server.catalog import State
from serving.server.logs import event

_LOG = logging.getLogger(__name__)


class Manager:
    """Loads new versions before it retires old ones; a version that does not load changes nothing.

    Args:
        catalog: `Catalog`.
        models: `{name: Served}`.
        load: (name, version, folder) -> `Servable`; raises `ReadableError`.
        poll_seconds: between two looks at the folders; 0 never looks again.
        config_file: ModelServerConfig that `models` came from, looked at again, too.
    """

    def __init__(self, catalog, models, load, poll_seconds, config_file=None):
        self._catalog, self._models, self._load = catalog, models, load
        self._poll_seconds, self._config_file = poll_seconds, config_file
        self._failed = {}  # (name, version): fingerprint of the folder when it failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)

    def start(self) -> None:
        """Loads what should be served, and watches from then on.

        Raises:
            InputError: a model of which no version can be served.
        """
        for model in self._models.values():
            error = self._refresh(model)
            if not self._catalog.versions(model.name):
                raise error or versions_missing(model)
        if self._poll_seconds:
            self._thread.start()

    def stop(self) -> None:
        """Ends watching; what is loaded stays."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def refresh(self) -> None:
        """Looks at the configuration file and the folders once."""
        for name in set(self._models) - set(self._read_models()):
            for version in self._catalog.versions(name):
                self._catalog.retire(name, version)
                event(_LOG, logging.INFO, "version retired", model=name, version=version)
            self._catalog.forget(name)
        self._models = self._read_models()
        for model in self._models.values():
            self._refresh(model)

    def _watch(self):
        while not self._stop.wait(self._poll_seconds):
            try:
                self.refresh()
            except Exception as error:
                # Whatever a folder holds, the versions that are loaded go on answering.
                event(_LOG, logging.ERROR, "watching failed", reason=type(error).__name__)

    def _read_models(self):
        if not self._config_file:
            return self._models
        try:
            return served.read(self._config_file)
        except InputError as error:
            event(_LOG, logging.ERROR, "configuration refused", reason=str(error))
            return self._models

    def _refresh(self, model):
        """Brings one model to its wanted versions; returns the newest one's error, if any."""
        there = self._there(model)
        wanted, first = model.policy.choose(there), None
        for version in wanted:
            first = first or self._try(model, version, there[version])
        if not self._catalog.versions(model.name) and not model.policy.specific:
            # Better an older version than none.
            for version in sorted(set(there) - set(wanted), reverse=True):
                if self._try(model, version, there[version]) is None:
                    break
        # A label moves while both its old and its new version answer.
        self._catalog.label(model.name, model.labels)
        loaded = self._catalog.versions(model.name)
        if wanted and set(wanted) <= set(loaded):
            for version in set(loaded) - set(wanted):
                self._catalog.retire(model.name, version)
                event(_LOG, logging.INFO, "version retired", model=model.name, version=version)
        self._catalog.forget(model.name, keep=there)
        return first

    def _there(self, model):
        try:
            return versions.available(model.base_path)
        except (InputError, OSError) as error:
            event(_LOG, logging.ERROR, "no versions", model=model.name, reason=str(error))
            return {}

    def _try(self, model, version, folder):
        """Loads a version unless it is loaded, or failed as it lies there; returns the error."""
        key = (model.name, version)
        if version in self._catalog.versions(model.name):
            return None
        found = _fingerprint(folder)
        if self._failed.get(key) == found:
            return None
        self._catalog.mark(*key, State.LOADING)
        try:
            self._catalog.add(self._load(model.name, version, folder))
        except Exception as error:
            self._failed[key] = found
            reason = str(error) if isinstance(error, ReadableError) else type(error).__name__
            self._catalog.mark(*key, State.END, reason)
            event(
                *(_LOG, logging.ERROR, "version refused"),
                model=model.name,
                version=version,
                reason=reason,
            )
            return error
        self._failed.pop(key, None)
        event(_LOG, logging.INFO, "version available", model=model.name, version=version)
        return None


def versions_missing(model):
    """An `InputError`: there is nothing to serve."""
    return InputError(
        model.base_path,
        f"it must hold a version of model {model.name!r} that its policy asks for",
        "Push one there; the path is the folder above the versions.",
    )


def _fingerprint(folder):
    """Changes whenever a file of the folder does."""
    files = (path for path in pathlib.Path(folder).rglob("*") if path.is_file())
    return tuple(sorted((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files))
