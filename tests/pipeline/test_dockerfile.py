"""The image of the compiled tasks copies existing files and has the locked versions."""

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


def test_every_copied_file_exists(lines):
    copied = [words[1:-1] for words in lines if words[0] == "COPY" and "--from=beam" not in words]
    assert copied
    for path in sum(copied, []):
        assert (ROOT / path).exists(), path


def test_every_package_in_setup_is_copied(lines):
    setup = (ROOT / "setup.py").read_text()
    packages = re.findall(r'"(\w+)"', re.search(r"PACKAGES = \[(.*)\]", setup)[1])
    assert {(package,) for package in packages} <= {tuple(words[1:-1]) for words in lines}


def test_python_and_beam_have_the_locked_versions(lines, locked):
    images = [words[1] for words in lines if words[0] == "FROM"]
    (newest,) = re.findall(r"^PYTHONS := .*,(.*)\)$", (ROOT / "Makefile").read_text(), re.M)
    python = newest.split()[0]
    beam = re.search(r"^apache-beam\[?.*?\]?==([\d.]+)", locked, re.M)[1]
    assert images[0] == f"apache/beam_python{python}_sdk:{beam}"
    assert images[1].startswith(f"python:{python}-")
