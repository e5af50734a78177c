"""Holds the loaded versions for the requests that use them and the manager that swaps them."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import grpc

from serving.server import requests
from serving.server.logs import event

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow_serving.apis.model_pb2 import ModelSpec

    from serving.c_api.session import SavedModelSession

_LOG = logging.getLogger(__name__)


class State(enum.IntEnum):
    """State of a version, with the numbers of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class Servable:
    """One loaded version.

    Attributes:
        name: name of the model.
        version: version of the model.
        session: runs the SavedModel.
        leases: number of requests that use it now.
        abandoned: whether its last request closes it, as nobody waits for that request.
    """

    name: str
    version: int
    session: SavedModelSession
    leases: int = 0
    abandoned: bool = False

    @property
    def signatures(self) -> dict[str, SignatureDef]:
        """`{name: SignatureDef}`."""
        return self.session.signatures


class Catalog:
    """Models, their loaded versions, labels and states; threads may share it.

    Args:
        observe: called with `{model: loaded versions}` after every change.
    """

    def __init__(self, observe: Callable[[Mapping[str, Iterable[int]]], None] = lambda _: None):
        self._observe = observe
        self._changed = threading.Condition()
        self._models: dict[str, dict[int, Servable]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._states: dict[str, dict[int, tuple[State, str]]] = {}
        self._closed = False

    @contextlib.contextmanager
    def lease(self, spec: ModelSpec) -> Iterator[Servable]:
        """Yields the `Servable` that a ModelSpec names; it stays loaded until the block ends.

        Raises:
            RequestError: INVALID_ARGUMENT without a model name or with an unknown label, NOT_FOUND
                for an unknown model or version.
        """
        with self._changed:
            servable = self._find(spec)
            servable.leases += 1
        try:
            yield servable
        finally:
            with self._changed:
                servable.leases -= 1
                is_last = servable.abandoned and not servable.leases
                self._changed.notify_all()
            if is_last:
                self._end(servable)

    def states(self, spec: ModelSpec) -> dict[int, tuple[State, str]]:
        """Returns `{version: (State, message)}` of the version that a ModelSpec names, or of all.

        Raises:
            RequestError: as in `lease`.
        """
        with self._changed:
            if spec.version_label:
                known = {self._find(spec).version}
            else:
                requests.check_name(spec)
                known = set(self._states.get(spec.name, ()))
                if spec.HasField("version"):
                    known &= {spec.version.value}
            if not known:
                raise self._not_found(spec)
            return {v: self._states[spec.name][v] for v in sorted(known, reverse=True)}

    def versions(self, name: str) -> list[int]:
        """Returns the loaded versions of a model, newest first."""
        with self._changed:
            return sorted(self._models.get(name, ()), reverse=True)

    def names(self) -> list[str]:
        """Returns the models with a loaded version."""
        with self._changed:
            return sorted(name for name, versions in self._models.items() if versions)

    def mark(self, name: str, version: int, state: State, message: str = "") -> None:
        """Sets the state of a version that is not loaded."""
        with self._changed:
            self._states.setdefault(name, {})[version] = (state, message)

    def forget(self, name: str, keep: Iterable[int] = ()) -> None:
        """Drops the states of all versions except `keep` and the loaded ones."""
        with self._changed:
            retained = {*keep, *self._models.get(name, ())}
            states = self._states.get(name, {})
            self._states[name] = {v: state for v, state in states.items() if v in retained}

    def add(self, servable: Servable) -> None:
        """Makes a loaded version available to requests; closes it if the catalog is closed."""
        with self._changed:
            if not self._closed:
                self._models.setdefault(servable.name, {})[servable.version] = servable
                self._states.setdefault(servable.name, {})[servable.version] = (State.AVAILABLE, "")
                self._observe(self._models)
                return
        servable.session.close()

    def label(self, name: str, labels: Mapping[str, int]) -> dict[str, int]:
        """Sets the labels of a model; requests find only labels whose version is loaded.

        A label whose new version is not loaded stays at the version that it has.

        Returns:
            `{label: version}` after the call.
        """
        with self._changed:
            loaded, before = self._models.get(name, {}), self._labels.get(name, {})
            self._labels[name] = {
                label: version if version in loaded else before.get(label, version)
                for label, version in labels.items()
            }
            return self._labels[name]

    def retire(self, name: str, version: int, seconds: float | None = None) -> int:
        """Withdraws a version from new requests and closes it after its last request.

        Args:
            name: name of the model.
            version: version of the model; nothing happens if it is not loaded.
            seconds: time to wait for the last request; None waits until it ends. A request that
                takes longer closes the version when it ends.

        Returns:
            The number of requests that still use it.
        """
        with self._changed:
            servable = self._models[name].pop(version, None)
            if servable is None:
                return 0
            self._states[name][version] = (State.UNLOADING, "")
            self._observe(self._models)
            self._changed.wait_for(lambda: not servable.leases, seconds)
            requests_left = servable.leases
            servable.abandoned = requests_left > 0
        if not requests_left:
            self._end(servable)
        return requests_left

    def _end(self, servable: Servable) -> None:
        servable.session.close()
        with self._changed:
            # The version may be loaded again, or forgotten, while its last request runs.
            states = self._states.get(servable.name, {})
            if states.get(servable.version, (State.END, ""))[0] is State.UNLOADING:
                states[servable.version] = (State.END, "")

    def close(self, seconds: float | None = None) -> None:
        """Retires every version, and those that are added later.

        Args:
            seconds: time to wait for the requests of all versions; None waits until they end.
        """
        with self._changed:
            self._closed = True
        end_by = None if seconds is None else time.monotonic() + seconds
        for name in self.names():
            for version in self.versions(name):
                remaining = None if end_by is None else max(0.0, end_by - time.monotonic())
                if left := self.retire(name, version, remaining):
                    details = {"model": name, "version": version, "requests": left}
                    event(_LOG, logging.WARNING, "requests cut off", **details)

    def _find(self, spec: ModelSpec) -> Servable:
        requests.check_name(spec)
        versions = self._models.get(spec.name) or {}
        version: int | None
        if spec.version_label:
            version = self._labels.get(spec.name, {}).get(spec.version_label)
            if version not in versions:
                raise requests.invalid(
                    f"Unrecognized servable version label: {spec.version_label}. Use a label of "
                    "models.config whose version is loaded, a version number, or neither."
                )
        else:
            version = spec.version.value if spec.HasField("version") else max(versions, default=0)
        if version not in versions:
            raise self._not_found(spec)
        return versions[version]

    def _not_found(self, spec: ModelSpec) -> requests.RequestError:
        exact = spec.HasField("version")
        target = f"Specific({spec.name}, {spec.version.value})" if exact else f"Latest({spec.name})"
        served = {name: sorted(versions) for name, versions in self._models.items() if versions}
        available = "; ".join(
            f"model {name!r}, version {', '.join(map(str, served[name]))}"
            for name in sorted(served)
        )
        return requests.RequestError(
            grpc.StatusCode.NOT_FOUND,
            f"Servable not found for request: {target}. Available: {available or 'nothing'}; "
            "request one of these.",
        )
