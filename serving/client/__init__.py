"""Clients of a served model: `Client` for threads, `AsyncClient` for asyncio.

The names load on first use, so that `import serving.client` is fast.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.client.answers import Recommendations, ServingError, SimulatedHistory
    from serving.client.asynchronous import AsyncClient
    from serving.client.sync import Client
    from serving.client.users import ROWS

_MODULES = {
    "AsyncClient": "asynchronous",
    "Client": "sync",
    "ROWS": "users",
    "Recommendations": "answers",
    "ServingError": "answers",
    "SimulatedHistory": "answers",
}

__all__ = ["ROWS", "AsyncClient", "Client", "Recommendations", "ServingError", "SimulatedHistory"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
