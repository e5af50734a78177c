"""The loaded versions, shared by the requests that use them and the manager that swaps them."""

import contextlib
import dataclasses
import enum
import threading

import grpc

from serving.server import requests


class State(enum.IntEnum):
    """Of a version; numbered as ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class Servable:
    """One loaded version.

    Attributes:
        name, version: of the model.
        session: `SavedModelSession`.
        leases: requests that use it now.
    """

    name: str
    version: int
    session: object
    leases: int = 0

    @property
    def signatures(self):
        """`{name: SignatureDef}`."""
        return self.session.signatures


class Catalog:
    """Models, their loaded versions, labels and states; safe to share among threads.

    Args:
        observe: is told `{model: versions that answer}` after every change.
    """

    def __init__(self, observe=lambda _: None):
        self._observe = observe
        self._changed = threading.Condition()
        self._models = {}  # name: {version: Servable}
        self._labels = {}  # name: {label: version}
        self._states = {}  # name: {version: (State, message)}

    @contextlib.contextmanager
    def lease(self, spec):
        """The `Servable` that a ModelSpec asks for, kept loaded as long as the block lasts.

        Raises:
            RequestError: INVALID_ARGUMENT without a model name or with an unknown label, NOT_FOUND
                for another model or version.
        """
        with self._changed:
            servable = self._find(spec)
            servable.leases += 1
        try:
            yield servable
        finally:
            with self._changed:
                servable.leases -= 1
                self._changed.notify_all()

    def states(self, spec):
        """{version: (State, message)} of a ModelSpec: of the version it asks for, or of all.

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

    def versions(self, name):
        """The versions that answer, newest first."""
        with self._changed:
            return sorted(self._models.get(name, ()), reverse=True)

    def names(self):
        """The models that answer."""
        with self._changed:
            return sorted(name for name, versions in self._models.items() if versions)

    def mark(self, name, version, state, message="") -> None:
        """Notes the state of a version that does not answer."""
        with self._changed:
            self._states.setdefault(name, {})[version] = (state, message)

    def forget(self, name, keep=()) -> None:
        """Drops the states of versions that are gone, but for `keep` and those that answer."""
        with self._changed:
            kept = {*keep, *self._models.get(name, ())}
            states = self._states.get(name, {})
            self._states[name] = {v: state for v, state in states.items() if v in kept}

    def add(self, servable) -> None:
        """Lets a version answer."""
        with self._changed:
            self._models.setdefault(servable.name, {})[servable.version] = servable
            self._states.setdefault(servable.name, {})[servable.version] = (State.AVAILABLE, "")
            self._observe(self._models)

    def label(self, name, labels) -> None:
        """Sets the labels of a model; one that names a version which does not answer is unknown."""
        with self._changed:
            self._labels[name] = dict(labels)

    def retire(self, name, version) -> None:
        """Takes a version away: no new request gets it, and it is closed once the last one ends."""
        with self._changed:
            servable = self._models[name].pop(version)
            self._states[name][version] = (State.UNLOADING, "")
            self._observe(self._models)
            self._changed.wait_for(lambda: not servable.leases)
        servable.session.close()
        self.mark(name, version, State.END)

    def close(self) -> None:
        """Retires every version."""
        for name in self.names():
            for version in self.versions(name):
                self.retire(name, version)

    def _find(self, spec):
        requests.check_name(spec)
        versions = self._models.get(spec.name) or {}
        if spec.version_label:
            version = self._labels.get(spec.name, {}).get(spec.version_label)
            if version not in versions:
                raise requests.invalid(
                    f"Unrecognized servable version label: {spec.version_label}. Ask for a label "
                    "of models.config whose version is loaded, for a version, or for neither."
                )
        else:
            version = spec.version.value if spec.HasField("version") else max(versions, default=0)
        if version not in versions:
            raise self._not_found(spec)
        return versions[version]

    def _not_found(self, spec):
        exact = spec.HasField("version")
        asked = f"Specific({spec.name}, {spec.version.value})" if exact else f"Latest({spec.name})"
        served = {name: sorted(versions) for name, versions in self._models.items() if versions}
        shown = "; ".join(
            f"model {name!r}, version {', '.join(map(str, served[name]))}"
            for name in sorted(served)
        )
        return requests.RequestError(
            grpc.StatusCode.NOT_FOUND,
            f"Servable not found for request: {asked}. Served is {shown or 'nothing'}; "
            "ask for that.",
        )
