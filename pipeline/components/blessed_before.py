"""Which model a new one is compared with: the last one that was blessed before it."""

import json
import sys

from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.types import Channel, standard_artifacts

from cmclrec_tf.config import SPLIT_SETTINGS
from pipeline.evaluation.serving_verdict import is_blessed
from pipeline.metadata.store import inputs, producers

COMPONENT, START = "Baseline", "WarmStart"
_MODEL, _CANDIDATE, _BLESSING, _INFRA = "model", "candidate", "model_blessing", "infra_blessing"


def blessed_before(candidate, longest):
    """The node that finds the newest model older than the candidate that both gates have blessed.

    A run that is repeated finds what it found before, although its own model is blessed by now, so
    that all of it comes from the cache.

    Args:
        candidate: channel of the Trainer's model.
        longest: items that a list must hold to be judged.

    Returns:
        A resolver with the output `model`, which is empty if there is no such model.
    """
    return Resolver(
        strategy_class=BlessedBefore,
        config={"longest": longest},
        **{
            _CANDIDATE: candidate,
            _MODEL: Channel(type=standard_artifacts.Model),
            _BLESSING: Channel(type=standard_artifacts.ModelBlessing),
            _INFRA: Channel(type=standard_artifacts.InfraBlessing),
        },
    ).with_id(COMPONENT)


def latest_blessed(candidate, longest):
    """The same by TFX's own strategy, the only one of this kind that Kubeflow and Vertex AI know.

    It finds the newest model that the Evaluator has blessed, be it the candidate itself; arguments
    as in `blessed_before`, and not used.
    """
    return _latest(COMPONENT)


def start():
    """The node that finds the model whose weights a training begins with: the newest blessed one.

    A run that is repeated begins with what the run before left, and trains again.
    """
    return _latest(START)


def _latest(component):
    return Resolver(
        strategy_class=LatestBlessedModelStrategy,
        **{
            _MODEL: Channel(type=standard_artifacts.Model),
            _BLESSING: Channel(type=standard_artifacts.ModelBlessing),
        },
    ).with_id(component)


class BlessedBefore(ResolverStrategy):
    """Finds the model of `blessed_before`; a blessed one that cannot be compared is told of.

    Args:
        longest: items that a list must hold to be judged.
    """

    def __init__(self, longest):
        self._longest = longest

    def resolve_artifacts(self, store, input_dict):
        """The inputs with at most one of the models left, and no blessing.

        Args:
            store: of ML Metadata.
            input_dict: `{key: artifacts}`, as `blessed_before` wires them.
        """
        (candidate,) = input_dict[_CANDIDATE]
        found = {_CANDIDATE: [candidate], _MODEL: [], _BLESSING: [], _INFRA: []}
        blessed = {
            blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY)
            for blessing in input_dict[_BLESSING]
            if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY)
            == constants.BLESSED_VALUE
        }
        blessed &= _validated(store, input_dict[_INFRA])
        older = [model for model in input_dict[_MODEL] if model.id < candidate.id]
        for model in sorted(older, key=lambda model: model.id, reverse=True):
            if model.id not in blessed:
                continue
            settings = [_settings(store, one.id) for one in (candidate, model)]
            different = differences(*settings, self._longest)
            if not different:
                return {**found, _MODEL: [model]}
            print(
                f"The blessed model {model.uri} cannot be compared with: "
                f"it has {' and '.join(different)}",
                file=sys.stderr,
            )
        return found


def differences(ours, theirs, longest):
    """Why a model cannot be compared with another one on the same test users.

    Args:
        ours, theirs: `trainer.custom_config` of the candidate and of the other model.
        longest: items that a list must hold to be judged.

    Returns:
        List of texts, empty if it can.
    """
    found = []
    if ours["features"] != theirs["features"]:
        found.append("other user features")
    drawn, given = ours["config"]["data"], theirs["config"]["data"]
    found += [
        f"data.{name}={given.get(name)!r} instead of {drawn[name]!r}"
        # With another draw it was trained on some of the test users.
        for name in SPLIT_SETTINGS
        if drawn[name] != given.get(name)
    ]
    length = theirs["config"]["serve"]["list_length"]
    if length < longest:
        found.append(f"serve.list_length={length} instead of at least {longest}")
    return found


def _validated(store, blessings):
    """Ids of the models behind those of ServingValidator's blessings that are positive."""
    passed = [b.id for b in blessings if is_blessed(b)]
    return {artifact for _, artifact in inputs(store, producers(store, passed))}


def _settings(store, model_id):
    """What the Trainer that made a model was told."""
    execution, *_ = store.get_executions_by_id(sorted(producers(store, [model_id])))
    return json.loads(execution.custom_properties["custom_config"].string_value)
