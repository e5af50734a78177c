"""Tests the states of versions that are loaded again while a request holds the old one."""

import pytest
from tensorflow_serving.apis import model_pb2

from serving.server.catalog import Catalog, Servable, State

SPEC = model_pb2.ModelSpec(name="m")


class Session:
    """Counts how often it is closed."""

    closed = 0

    def close(self):
        self.closed += 1


def add(catalog):
    catalog.add(Servable("m", 1, Session()))


def load_again(catalog):
    add(catalog)
    return State.AVAILABLE


def start_to_load(catalog):
    catalog.mark("m", 1, State.LOADING)
    return State.LOADING


@pytest.mark.parametrize("change", [load_again, start_to_load, lambda catalog: State.END])
def test_the_last_request_of_an_old_servable(change):
    """Its end is the state of the version only if nothing else has become of the version."""
    catalog = Catalog()
    add(catalog)
    with catalog.lease(SPEC) as old:
        assert catalog.retire("m", 1, 0) == 1
        state = change(catalog)
    assert old.session.closed == 1
    assert catalog.states(SPEC) == {1: (state, "")}


def test_a_forgotten_model_stays_forgotten():
    catalog = Catalog()
    add(catalog)
    with catalog.lease(SPEC):
        catalog.retire("m", 1, 0)
        catalog.forget("m")
    with pytest.raises(Exception, match="Servable not found"):
        catalog.states(SPEC)
