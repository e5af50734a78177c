"""The image of the compiled tasks is made of the lock and of what this repository holds."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lines():
    text = (ROOT / "pipeline" / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def locked():
    return (ROOT / "requirements.lock").read_text()


def test_everything_that_is_copied_is_here(lines):
    copied = [words[1:-1] for words in lines if words[0] == "COPY" and "--from=beam" not in words]
    assert copied
    for path in sum(copied, []):
        assert (ROOT / path).exists(), path


def test_every_room_that_setup_names_is_in_it(lines):
    setup = (ROOT / "setup.py").read_text()
    rooms = re.findall(r'"(\w+)"', re.search(r"ROOMS = \[(.*)\]", setup)[1])
    assert {(room,) for room in rooms} <= {tuple(words[1:-1]) for words in lines}


def test_python_and_beam_are_those_of_the_lock(lines, locked):
    images = [words[1] for words in lines if words[0] == "FROM"]
    python = (ROOT / ".python-version").read_text().strip()
    beam = re.search(r"^apache-beam\[?.*?\]?==([\d.]+)", locked, re.M)[1]
    assert images[0] == f"apache/beam_python{python}_sdk:{beam}"
    assert images[1].startswith(f"python:{python}-")
