"""Trains two small models of the same users and computes the answers that each must give."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cmclrec_tf import Config
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.vocabulary import read
from cmclrec_tf.schema import MULTI, NUMERIC, Feature
from cmclrec_tf.training import train
from serving.export.saved_model import export

_FEATURES = (Feature("age", NUMERIC), Feature("team"), Feature("tags", MULTI))
_CONFIG = {
    "data": {"max_history": 8},
    "model": {"width": 16, "latent": 8, "blocks": 1, "heads": 2, "dropout": 0.0},
    "pretrain": {"epochs": 2, "epoch_steps": 1, "batch_size": 32},
    "finetune": {"epochs": 6, "epoch_steps": 1, "batch_size": 32, "learning_rate": 0.01},
    "serve": {"list_length": 10},
}
_TOLERANCE = 1e-4
LETTERS = "ab"


def _users(
    prefix: str, count: int, rng: np.random.Generator, cold: bool = False
) -> list[dict[str, Any]]:
    """Returns users of two teams; the history of each walks around the ten items of its team."""
    users = []
    for number in range(count):
        team = number % 2
        start, length = rng.integers(10), rng.integers(4, 9)
        walk = [f"i{team * 10 + (start + step) % 10}" for step in range(length + 1)]
        users.append(
            {
                "user_id": f"{prefix}{number}",
                "history": [] if cold else walk[:-1],
                "target": walk[-1:],
                "segment": "cold" if cold else "warm",
                "age": float(20 + 30 * team + rng.integers(5)),
                "team": f"team-{team}",
                "tags": [f"t{team}", "both"][: rng.integers(1, 3)],
            }
        )
    return users


@dataclasses.dataclass(frozen=True)
class Case:
    """A user, and the scores that each model gives to every item.

    Attributes:
        user: history and user features, as a client takes them.
        scores: `{letter of the model: {item: score}}`, from history and user features.
        history_scores: the same, from the history alone.
        states: `{letter of the model: the user's embedding}`.
    """

    user: dict[str, Any]
    scores: Mapping[str, Mapping[str, float]]
    history_scores: Mapping[str, Mapping[str, float]]
    states: Mapping[str, np.ndarray]

    def by_history(self) -> Case:
        """Returns the case of the same user whose features a request leaves out."""
        return dataclasses.replace(self, scores=self.history_scores)

    def fits(
        self,
        letter: str,
        items: Sequence[str],
        scores: Sequence[float],
        exclude: Collection[str] = (),
    ) -> bool:
        """Whether a list has the best items of a model, with their scores.

        Args:
            letter: letter of the model.
            items: item ids of the list.
            scores: scores of the list.
            exclude: items that must not be in the list, in addition to the history.
        """
        expected = self.scores[letter]
        hidden = {*self.user["history"], *exclude}
        best = sorted((expected[i] for i in expected if i not in hidden), reverse=True)
        best = best[: len(items)]
        if not items or set(items) & hidden or len(set(items)) < len(items):
            return False
        of_items = [expected.get(item, np.nan) for item in items]
        close = lambda values: np.allclose(scores, values, atol=_TOLERANCE)
        return len(best) == len(items) and close(of_items) and close(best)


def build(folder: str | os.PathLike[str], seed: int) -> list[Case]:
    """Trains and exports the models.

    Args:
        folder: folder for the exports, which become its subfolders `a` and `b`.
        seed: seeds the users and the first model.

    Returns:
        One `Case` for each test user.
    """
    folder = pathlib.Path(folder)
    rng = np.random.default_rng(seed)
    tables = {
        "train": _users("u", 96, rng),
        "val": _users("v", 32, rng),
        "test": _users("w", 32, rng) + _users("c", 32, rng, cold=True),
    }
    dataset = prepare_tables(tables, _FEATURES, folder / "prepared", max_history=8, name="soak")
    names = read(dataset.vocabularies["items"])
    by_model = {}
    for number, letter in enumerate(LETTERS):
        config = Config.from_dict({**_CONFIG, "seed": seed + number})
        model = train(dataset, config, log_dir=folder / f"logs-{letter}")
        export(model, dataset, folder / letter)
        batch = next(iter(dataset.batches("test", 64)))
        states = np.asarray(model(batch))
        history_states = model.warm_states(batch["history"])
        scores = [np.asarray(model.score(one)) for one in (states, history_states)]
        by_model[letter] = *scores, states
    order = dataset.user_ids("test")
    users = {user["user_id"]: user for user in tables["test"]}

    def by_item(row: int, which: int) -> dict[str, dict[str, float]]:
        return {
            letter: dict(zip(names, scores[which][row, 2:].tolist(), strict=True))
            for letter, scores in by_model.items()
        }

    cases = []
    for row, user_id in enumerate(order):
        user = {name: users[user_id][name] for name in ("history", "age", "team", "tags")}
        embeddings = {letter: states[row] for letter, (*_, states) in by_model.items()}
        cases.append(Case(user, by_item(row, 0), by_item(row, 1), embeddings))
    return cases
