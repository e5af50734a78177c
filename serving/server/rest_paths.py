"""Reads the model, version and method from the paths of TensorFlow Serving's REST interface."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse

from tensorflow_serving.apis import model_pb2

from serving.server import requests

# TensorFlow Serving ignores the case of paths, but not that of methods.
_PREFIX = r"/v1/models(?:/([^/:]+))?(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_GET = re.compile(_PREFIX + "(?:/(metadata))?", re.IGNORECASE)
_POST = re.compile(_PREFIX + ":(classify|regress|predict)", re.IGNORECASE)
_AUTHORITY = re.compile("^https?://[^/?]*", re.IGNORECASE)
STATUS, METADATA, PREDICT = "status", "metadata", "predict"


@dataclasses.dataclass(frozen=True)
class Target:
    """What a path names.

    Attributes:
        method: "status", "metadata", "predict", "classify" or "regress".
        model: name of the model.
        version: version of the model; None for the newest or with a label.
        label: label of the version; "" without one.
    """

    method: str
    model: str
    version: int | None = None
    label: str = ""

    def spec(self, signature_name: str = "") -> model_pb2.ModelSpec:
        """Returns the ModelSpec of a request to this target."""
        spec = model_pb2.ModelSpec(name=self.model, signature_name=signature_name)
        if self.version is not None:
            spec.version.value = self.version
        elif self.label:
            spec.version_label = self.label
        return spec


def path_of(raw_path: str) -> str:
    """Returns the path of a request target, without authority and query."""
    return _AUTHORITY.sub("", raw_path, count=1).partition("?")[0]


def is_served(path: str) -> bool:
    """Whether a path belongs to the interface; others are NOT_FOUND."""
    return path.lower().startswith("/v1/")


def parse(http_method: str, path: str) -> Target:
    """Returns the `Target` of a request.

    Args:
        http_method: method of HTTP in upper case.
        path: path with percent escapes.

    Raises:
        RequestError: INVALID_ARGUMENT for any other path or HTTP method, as TensorFlow Serving
            answers.
    """
    pattern = {"GET": _GET, "POST": _POST}.get(http_method)
    match = pattern.fullmatch(path) if pattern else None
    # A method in capitals is not one.
    if not match or match[4] not in (None, METADATA, PREDICT, "classify", "regress"):
        raise requests.invalid(
            f"Malformed request: {http_method} {path}. Send POST /v1/models/NAME"
            "[/versions/N|/labels/LABEL]:predict, or GET without :predict or with /metadata."
        )
    if match[1] is None:
        raise requests.invalid("Missing model name in request. Send /v1/models/NAME.")
    version = None
    if match[2]:
        # Twenty digits are too many, and more take long to read.
        version = int(match[2].lstrip("0")[:20] or "0")
        if version >= 2**63:
            raise requests.invalid(
                f"Failed to convert version: {match[2]} to numeric. It must be below 2**63."
            )
    return Target(match[4] or STATUS, _decoded(match[1]), version, _decoded(match[3] or ""))


def _decoded(text: str) -> str:
    """Replaces percent escapes; bytes that are not UTF-8 become the replacement character."""
    raw = urllib.parse.unquote_to_bytes(text.encode("utf-8", "replace"))
    return raw.decode("utf-8", "replace")
