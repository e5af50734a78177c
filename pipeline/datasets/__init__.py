"""Describes datasets: what their raw files hold, where they come from, and whether they fit."""

from pipeline.datasets.catalogue import titles
from pipeline.datasets.download import fetch
from pipeline.datasets.inspect_files import check, schema_text, states
from pipeline.datasets.spec import DatasetSpec, load_spec

__all__ = ["DatasetSpec", "check", "fetch", "load_spec", "schema_text", "states", "titles"]
