"""Silences import warnings of libraries for the commands of this package."""

import warnings


def quiet_imports() -> None:
    """Hides google.api_core's warnings about the Python version, which are not for the user."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
