"""Keeps the right versions loaded: watches the folders of models and swaps in new versions."""

from __future__ import annotations

import logging
import os
import pathlib
import threading
from collections.abc import Callable, Mapping

from cmclrec_tf.errors import InputError, ReadableError
from serving import versions
from serving.server import model_config
from serving.server.catalog import Catalog, Servable, State
from serving.server.logs import event
from serving.server.model_config import ModelConfig

_LOG = logging.getLogger(__name__)
# How long the last requests of a version may hold up the check for others.
_RETIRE_SECONDS = 5.0


class Manager:
    """Loads new versions before it retires old ones; if that fails, the old ones stay in service.

    Args:
        catalog: receives the loaded versions.
        models: `{name: ModelConfig}`.
        load: (name, version, folder) -> `Servable`; raises `ReadableError`.
        poll_seconds: pause between two checks of the folders; 0 checks only once.
        config_file: ModelServerConfig file that `models` came from; it is checked again, too.
    """

    def __init__(
        self,
        catalog: Catalog,
        models: Mapping[str, ModelConfig],
        load: Callable[[str, int, pathlib.Path], Servable],
        poll_seconds: float,
        config_file: str | os.PathLike[str] | None = None,
    ):
        self._catalog, self._models, self._load = catalog, models, load
        self._poll_seconds, self._config_file = poll_seconds, config_file
        # (name, version): fingerprint of the folder when loading it failed.
        self._failures: dict[tuple[str, int], tuple[tuple[str, int, int], ...]] = {}
        # Model name: what was wrong with its folders at the last check, so that it is logged once.
        self._faults: dict[str, tuple[str, ...]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)

    def start(self) -> None:
        """Loads the versions to serve and starts to watch for changes.

        Raises:
            InputError: no version of a model can be served.
        """
        for model in self._models.values():
            error = self._refresh_model(model)
            if not self._catalog.versions(model.name):
                raise error or _no_version(model)
        if self._poll_seconds:
            self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Stops watching; loaded versions stay loaded.

        Args:
            seconds: time to wait for a load under way; None waits until it ends.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def refresh(self) -> None:
        """Checks the configuration file and the folders once."""
        models = self._read_models()
        for name in set(self._models) - set(models):
            for version in self._catalog.versions(name):
                self._retire(name, version)
            self._catalog.forget(name)
        self._models = models
        for model in self._models.values():
            self._refresh_model(model)

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.refresh()
            except Exception as error:
                # The loaded versions keep answering, whatever is wrong with the folders.
                event(_LOG, logging.ERROR, "check failed", reason=type(error).__name__)

    def _read_models(self) -> Mapping[str, ModelConfig]:
        if not self._config_file:
            return self._models
        try:
            return model_config.read(self._config_file)
        except InputError as error:
            event(_LOG, logging.ERROR, "configuration refused", reason=str(error))
            return self._models

    def _refresh_model(self, model: ModelConfig) -> Exception | None:
        """Loads and retires versions of one model; returns the first new load error, if any."""
        available, fault = self._available(model)
        targets = model.policy.select(available)
        first_error = None
        for version in targets:
            first_error = first_error or self._try(model, version, available[version])
        if not self._catalog.versions(model.name) and not model.policy.specific:
            # An older version is better than none, unless the policy names its versions.
            for version in sorted(set(available) - set(targets), reverse=True):
                self._try(model, version, available[version])
                if version in self._catalog.versions(model.name):
                    break
        # Labels move before the old version is retired, so that a label always leads to a version.
        labels = dict(model.labels)
        current = self._catalog.label(model.name, labels)
        waiting = {current[label] for label in labels if current[label] != labels[label]}
        loaded = self._catalog.versions(model.name)
        # Old versions are retired only once every new one is loaded.
        if targets and set(targets) <= set(loaded):
            for version in set(loaded) - set(targets) - waiting:
                self._retire(model.name, version)
        self._catalog.forget(model.name, keep=available)
        gone = sorted(set(self._catalog.versions(model.name)) - set(available))
        self._log_fault(model, fault, gone)
        return first_error

    def _retire(self, name: str, version: int) -> None:
        left = self._catalog.retire(name, version, _RETIRE_SECONDS)
        details = {"model": name, "version": version, **({"requests_left": left} if left else {})}
        event(_LOG, logging.INFO, "version retired", **details)

    def _available(self, model: ModelConfig) -> tuple[dict[int, pathlib.Path], str]:
        """Returns the versions on disk, and why there are none if the folder cannot be read."""
        try:
            return versions.available(model.base_path), ""
        except (InputError, OSError) as error:
            return {}, str(error)

    def _log_fault(self, model: ModelConfig, fault: str, gone: list[int]) -> None:
        """Logs once that the folder of a model, or of versions that are in service, is gone."""
        faults = (fault, *map(str, gone))
        if faults == self._faults.get(model.name, ("",)):
            return
        self._faults[model.name] = faults
        if fault or gone:
            details = {"model": model.name, "still_served": gone, "reason": fault}
            event(_LOG, logging.ERROR, "folder gone", **details)
        else:
            event(_LOG, logging.INFO, "folder back", model=model.name)

    def _try(self, model: ModelConfig, version: int, folder: pathlib.Path) -> Exception | None:
        """Loads a version; returns the error if that fails.

        It does nothing, and returns None, if the version is loaded already, or if it failed before
        and its files have not changed since.
        """
        key = (model.name, version)
        if version in self._catalog.versions(model.name) or self._stop.is_set():
            return None
        fingerprint = _fingerprint(folder)
        if self._failures.get(key) == fingerprint:
            return None
        self._catalog.mark(*key, State.LOADING)
        try:
            self._catalog.add(self._load(model.name, version, folder))
        except Exception as error:
            self._failures[key] = fingerprint
            reason = str(error) if isinstance(error, ReadableError) else type(error).__name__
            self._catalog.mark(*key, State.END, reason)
            details = {"model": model.name, "version": version, "reason": reason}
            event(_LOG, logging.ERROR, "version refused", **details)
            return error
        self._failures.pop(key, None)
        event(_LOG, logging.INFO, "version available", model=model.name, version=version)
        return None


def _no_version(model: ModelConfig) -> InputError:
    return InputError(
        model.base_path,
        f"no version of model {model.name!r} that the version policy asks for can be loaded",
        "Push one there; the path is the folder above the versions.",
    )


def _fingerprint(folder: pathlib.Path) -> tuple[tuple[str, int, int], ...]:
    """Returns names, sizes and times of a folder's files; it differs after a file has changed."""
    try:
        files = [(path, path.stat()) for path in folder.rglob("*") if path.is_file()]
    except OSError:  # the folder is being removed
        return ()
    return tuple(sorted((str(path), s.st_size, s.st_mtime_ns) for path, s in files))
