"""Which models and which of their versions a server is told to serve."""

import dataclasses

from cmclrec_tf.errors import InputError
from serving.server import text_protos


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which versions of those that are there.

    Attributes:
        latest: how many of the newest; 0 for all of them.
        specific: these versions instead.
    """

    latest: int = 1
    specific: tuple[int, ...] = ()

    def choose(self, versions):
        """The versions wanted, newest first, of those that are there."""
        newest = sorted(versions, reverse=True)
        if self.specific:
            return [version for version in newest if version in self.specific]
        return newest[: self.latest] if self.latest else newest


@dataclasses.dataclass(frozen=True)
class Served:
    """One model.

    Attributes:
        name: that requests give.
        base_path: folder of its integer-named versions.
        policy: `Policy`.
        labels: `((label, version), ...)`.
    """

    name: str
    base_path: str
    policy: Policy = Policy()
    labels: tuple = ()


def read(path):
    """The models of a ModelServerConfig file, as `tensorflow_model_server` takes it.

    Returns:
        `{name: Served}`.

    Raises:
        InputError: the file is none, names no model or one twice, or a model without a path.
    """
    config = text_protos.model_server_config(path)
    found = {}
    for model in config.model_config_list.config:
        if not model.name or not model.base_path or model.name in found:
            raise InputError(
                f"model {model.name!r} of {path}",
                "every model needs a base_path and a name of its own",
                "Correct the file.",
            )
        found[model.name] = Served(
            model.name,
            model.base_path,
            _policy(model),
            tuple(sorted(model.version_labels.items())),
        )
    if not found:
        raise InputError(path, "it must name a model", "Add one to model_config_list.")
    return found


def _policy(model):
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return Policy(latest=0)
    if choice == "specific":
        if not policy.specific.versions:
            raise InputError(
                f"policy `specific` of model {model.name!r}",
                "it must name a version",
                "Add `versions: <number>` to it.",
            )
        return Policy(specific=tuple(policy.specific.versions))
    return Policy(latest=policy.latest.num_versions or 1)
