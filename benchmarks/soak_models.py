"""Two small models of the same users, and what each of them must answer, told by Keras."""

import dataclasses

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


def _users(prefix, count, rng, cold=False):
    """Users of two teams, each of which walks round ten items of its own."""
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
    """A user and the scores that each model gives every item.

    Attributes:
        user: history and user features, as a client takes them.
        scores: `{letter: {item: score}}`.
        states: `{letter: the user's embedding}`.
    """

    user: dict
    scores: dict
    states: dict

    def fits(self, letter, items, scores, exclude=()):
        """Whether a list is what a model should answer: its best items, with their scores."""
        own = self.scores[letter]
        hidden = {*self.user["history"], *exclude}
        best = sorted((own[i] for i in own if i not in hidden), reverse=True)[: len(items)]
        if not items or set(items) & hidden or len(set(items)) < len(items):
            return False
        told = [own.get(item, np.nan) for item in items]
        close = lambda values: np.allclose(scores, values, atol=_TOLERANCE)
        return len(best) == len(items) and close(told) and close(best)


def build(folder, seed):
    """Trains and exports the models.

    Args:
        folder: where to; the exports lie in its folders `a` and `b`.
        seed: of the users and of the first model.

    Returns:
        [`Case`], one a test user.
    """
    rng = np.random.default_rng(seed)
    tables = {
        "train": _users("u", 96, rng),
        "val": _users("v", 32, rng),
        "test": _users("w", 32, rng) + _users("c", 32, rng, cold=True),
    }
    dataset = prepare_tables(tables, _FEATURES, folder / "prepared", max_history=8, name="soak")
    names = read(dataset.vocabularies["items"])
    by_user = {}
    for number, letter in enumerate(LETTERS):
        config = Config.from_dict({**_CONFIG, "seed": seed + number})
        model = train(dataset, config, log_dir=folder / f"logs-{letter}")
        export(model, dataset, folder / letter)
        batch = next(iter(dataset.batches("test", 64)))
        states = np.asarray(model(batch))
        by_user[letter] = states, np.asarray(model.score(states))
    order = dataset.user_ids("test")
    rows = {user["user_id"]: user for user in tables["test"]}
    cases = []
    for row, user_id in enumerate(order):
        user = rows[user_id.decode() if isinstance(user_id, bytes) else user_id]
        cases.append(
            Case(
                {name: user[name] for name in ("history", "age", "team", "tags")},
                {
                    letter: dict(zip(names, scores[row, 2:].tolist(), strict=True))
                    for letter, (_, scores) in by_user.items()
                },
                {letter: states[row] for letter, (states, _) in by_user.items()},
            )
        )
    return cases
