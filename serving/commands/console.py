"""Silences libraries for the commands of this package."""

import importlib
import os
import warnings


def quiet_imports() -> None:
    """Hides google.api_core's warnings about the Python version, which are not for the user."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")


def import_tensorflow() -> None:
    """Imports TensorFlow and hides what it writes, now and later.

    TensorFlow's warnings quote the tensors of a failed request. While it is imported, TensorFlow
    2.21 writes to standard error at any level.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    errors, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        importlib.import_module("tensorflow")
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        os.close(nothing)
