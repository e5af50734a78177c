"""Finds the blessed model that a new one is compared with, or that its training starts from."""

import json
import sys
from typing import Any

from ml_metadata import MetadataStore
from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import (
    LatestBlessedModelStrategy,
)
from tfx.types import Artifact, Channel, standard_artifacts

from cmclrec_tf.config import split_settings
from pipeline.evaluation.serving_verdict import is_blessed
from pipeline.metadata.store import inputs, producers

COMPONENT, START = "Baseline", "WarmStart"
_MODEL, _CANDIDATE, _BLESSING, _INFRA = "model", "candidate", "model_blessing", "infra_blessing"


def blessed_before(candidate: Channel, longest: int) -> Resolver:
    """Returns the node that finds the newest blessed model that is older than the candidate.

    Both the Evaluator and ServingValidator must have blessed it. In a repeated run the node finds
    the same model again, although the candidate is blessed by then, so the whole run comes from the
    cache.

    Args:
        candidate: channel of the Trainer's model.
        longest: length of the longest lists that the Evaluator needs.

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


def latest_blessed(candidate: Channel, longest: int) -> Resolver:
    """Returns a node like that of `blessed_before` for Kubeflow and Vertex AI.

    They only run TFX's own strategies. This one finds the newest model that the Evaluator has
    blessed, which may be the candidate itself.

    Args:
        candidate: not used; see `blessed_before`.
        longest: not used.
    """
    return _latest(COMPONENT)


def warm_start_model() -> Resolver:
    """Returns the node that finds the model whose weights a training starts from.

    It is the newest one that the Evaluator has blessed, so a repeated run starts from the model of
    the run before, and trains again.
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
    """Finds the model of `blessed_before`, and prints why a newer blessed one was passed over.

    Args:
        longest: length of the longest lists that the Evaluator needs.
    """

    def __init__(self, longest: int):
        self._longest = longest

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[Artifact]]
    ) -> dict[str, list[Artifact]]:
        """Returns the inputs with at most one of the models, and without blessings.

        Args:
            store: the store of ML Metadata.
            input_dict: all artifacts by input, see `blessed_before`.
        """
        (candidate,) = input_dict[_CANDIDATE]
        resolved = {_CANDIDATE: [candidate], _MODEL: [], _BLESSING: [], _INFRA: []}
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
            reasons = differences(
                _trainer_settings(store, candidate.id),
                _trainer_settings(store, model.id),
                self._longest,
            )
            if not reasons:
                return {**resolved, _MODEL: [model]}
            print(
                f"The blessed model {model.uri} cannot be compared with: "
                f"it has {' and '.join(reasons)}",
                file=sys.stderr,
            )
        return resolved


def differences(candidate: dict[str, Any], other: dict[str, Any], longest: int) -> list[str]:
    """Returns why two models cannot be compared on the same test users; empty if they can.

    Args:
        candidate: `trainer.custom_config` of the candidate.
        other: `trainer.custom_config` of the other model.
        longest: length of the longest lists that the Evaluator needs.
    """
    reasons = []
    if candidate["features"] != other["features"]:
        reasons.append("other user features")
    data, other_data = (split_settings(each["config"]["data"]) for each in (candidate, other))
    reasons += [
        f"data.{name}={other_data.get(name)!r} instead of {data.get(name)!r}"
        # With other splits the other model was trained on some of the test users.
        for name in dict.fromkeys([*data, *other_data])
        if data.get(name) != other_data.get(name)
    ]
    length = other["config"]["serve"]["list_length"]
    if length < longest:
        reasons.append(f"serve.list_length={length} instead of at least {longest}")
    return reasons


def _validated(store, blessings):
    """Returns the ids of the models that ServingValidator has blessed."""
    positive = [blessing.id for blessing in blessings if is_blessed(blessing)]
    return {artifact for _, artifact in inputs(store, producers(store, positive))}


def _trainer_settings(store, model_id):
    """Returns `trainer.custom_config` of the Trainer that made a model."""
    execution, *_ = store.get_executions_by_id(sorted(producers(store, [model_id])))
    return json.loads(execution.custom_properties["custom_config"].string_value)
