"""What this room's commands share."""

import warnings


def quiet_imports() -> None:
    """What libraries say of their own support is not a command's answer."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
