"""The gRPC client: `Client` for threads, `AsyncClient` for asyncio. Names load on first use."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.client.answers import Recommendations, ServingError
    from serving.client.asynchronous import AsyncClient
    from serving.client.sync import Client
    from serving.client.users import ROWS

_HOMES = {
    "AsyncClient": "asynchronous",
    "Client": "sync",
    "ROWS": "users",
    "Recommendations": "answers",
    "ServingError": "answers",
}

__all__ = ["ROWS", "AsyncClient", "Client", "Recommendations", "ServingError"]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return __all__
