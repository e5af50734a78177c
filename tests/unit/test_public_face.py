"""The library as seen from a notebook: names, help, version, and examples that run."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import cmclrec_tf as cm

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
# Packages of the building blocks that users combine; each class and function needs an example.
PACKAGES = ("backbones", "baselines", "evaluation", "layers", "losses", "models")


def modules():
    names = [module.name for module in pkgutil.walk_packages(cm.__path__, "cmclrec_tf.")]
    return [cm, *map(importlib.import_module, names)]


def public(module):
    """Returns the names of the public classes and functions that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and not name.startswith("_")
        and value.__module__ == module.__name__
    ]


def test_all_names_are_listed():
    assert {"CMCLRec", "Config", "evaluate", "load", "train"} <= set(dir(cm))
    assert all(hasattr(cm, name) for name in dir(cm))


def test_help_shows_every_public_name():
    import pydoc

    text = pydoc.plain(pydoc.render_doc(cm))
    for name in set(cm.__all__) - {"__version__"}:
        assert re.search(rf"\b{name}\b", text), name


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert cm.__version__ == version("cmclrec-tf")


def test_every_public_name_has_an_example():
    missing = [
        name
        for name in set(cm.__all__) - {"__version__"}
        if ">>>" not in (inspect.getdoc(getattr(cm, name)) or "")
    ]
    assert not missing


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_class_and_function_has_an_example(package):
    missing = [
        f"{module.__name__}.{name}"
        for module in modules()
        if module.__name__.startswith(f"cmclrec_tf.{package}")
        for name in public(module)
        if ">>>" not in (getattr(module, name).__doc__ or "")
    ]
    assert not missing


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_examples_run(module):
    failures = doctest.testmod(module, optionflags=OPTIONS).failed
    assert not failures
