"""What an exported model must answer before it may be pushed, asked the way a server asks."""

import dataclasses

import numpy as np

from cmclrec_tf import schema
from pipeline.storage.records import parse, profile
from serving.c_api.session import SavedModelSession
from serving.client.inputs import cold_inputs, padded
from serving.contract import (
    EMBEDDING,
    IS_COLD,
    ITEM_IDS,
    SCORES,
    SERVING_DEFAULT,
    SIGNATURES,
    USER_EMBEDDING,
)

# Two batch shapes may round differently in the last bits.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Expected:
    """The contract of one export.

    Attributes:
        features: the user features, as the `cold` signature's inputs.
        items: every item id (bytes) that may be recommended.
        list_length: K asked for; an export answers at most as many as there are items.
        is_blended: whether `serving_default` blends the warm and the cold way for warm users, see
            `ServeConfig.simulated_events`; else they get the lists of `warm`.
    """

    features: tuple[schema.Feature, ...]
    items: frozenset[bytes]
    list_length: int
    is_blended: bool = False

    @property
    def k(self):
        return min(self.list_length, len(self.items))


def check_export(folder, records, expected):
    """Loads an export by the C path and asks all its signatures.

    Args:
        folder: the SavedModel.
        records: serialized user records of real warm and cold users.
        expected: the contract.

    Returns:
        The reasons not to serve it, one line each and without anything of a user; none if it is
        fit. Never raises for a broken export.
    """
    users = [parse(record) for record in records]
    rows = {
        segment: [
            i
            for i, user in enumerate(users)
            if user[schema.SEGMENT] == [segment.encode()]
            # A history without a known item counts as none.
            and (segment == schema.COLD or expected.items.intersection(user[schema.HISTORY]))
        ]
        for segment in (schema.WARM, schema.COLD)
    }
    reasons = [f"the test split has no {name} user to ask with" for name in rows if not rows[name]]
    if reasons:
        return reasons
    try:
        session = SavedModelSession(folder)
    except Exception as error:  # A broken export may fail in any way; the verdict is the same.
        return [f"it cannot be loaded: {' '.join(str(error).split())[:300]}"]
    with session:
        reasons = list(_wrong_signatures(session, expected))
        if reasons:
            return reasons
        try:
            return list(_wrong_answers(session, records, users, rows, expected))
        except Exception as error:
            # Not its message, which may quote what a user's record holds.
            code = getattr(error, "code", "unknown")
            return [f"it cannot be asked: {type(error).__name__}, status {code}"]


def _wrong_signatures(session, expected):
    for name in SIGNATURES:
        if name not in session.signatures:
            yield f"the signature {name!r} is missing"
    lists = {ITEM_IDS, SCORES}
    wanted = {
        "warm": ({schema.HISTORY, schema.EXCLUDE}, lists),
        "cold": ({*(f.name for f in expected.features), schema.EXCLUDE}, lists),
        SERVING_DEFAULT: ({schema.EXAMPLES}, lists | {IS_COLD}),
        USER_EMBEDDING: ({schema.EXAMPLES}, {EMBEDDING}),
    }
    for name in set(SIGNATURES) & set(session.signatures):
        for side, names in zip(("inputs", "outputs"), wanted[name], strict=True):
            found = set(getattr(session.signatures[name], side))
            if found != names:
                yield f"{name}: {side} are {sorted(found)}, the contract says {sorted(names)}"


def _wrong_answers(session, records, users, rows, expected):
    warm = [users[i] for i in rows[schema.WARM]]
    cold = [users[i] for i in rows[schema.COLD]]
    histories = [user[schema.HISTORY] for user in warm]
    nothing = [[] for _ in users]
    asked = {
        "warm": ({schema.HISTORY: padded(histories, schema.HISTORY)}, histories),
        "cold": (_cold_inputs(cold, expected.features), nothing[: len(cold)]),
    }
    answers = {}
    for name, (inputs, seen) in asked.items():
        blank = padded(None, schema.EXCLUDE, len(seen))
        answers[name] = session.run(name, {**inputs, schema.EXCLUDE: blank})
        yield from _wrong_lists(name, answers[name], seen, expected)
        exclude = [[row[0], row[-1]] for row in np.asarray(answers[name][ITEM_IDS])]
        again = session.run(name, {**inputs, schema.EXCLUDE: padded(exclude, schema.EXCLUDE)})
        seen = [[*a, *b] for a, b in zip(seen, exclude, strict=True)]
        yield from _wrong_lists(f"{name} with exclude", again, seen, expected)

    strangers = {
        "warm": {schema.HISTORY: padded([[b"\x00 not an item"]], schema.HISTORY)},
        "cold": _cold_inputs([{}], expected.features),
    }
    for name, inputs in strangers.items():
        answer = session.run(name, {**inputs, schema.EXCLUDE: padded(None, schema.EXCLUDE, 1)})
        yield from _wrong_lists(f"{name} of an unknown user", answer, [[]], expected)

    examples = np.array(records, object)
    served = session.run(SERVING_DEFAULT, {schema.EXAMPLES: examples})
    is_cold = np.asarray(served[IS_COLD]).astype(bool).reshape(-1)
    for name in (schema.WARM, schema.COLD):
        if (is_cold[rows[name]] != (name == schema.COLD)).any():
            yield f"serving_default: is_cold is wrong for {name} users"
        part = {key: np.asarray(served[key])[rows[name]] for key in (ITEM_IDS, SCORES)}
        if name == schema.WARM and expected.is_blended:
            yield from _wrong_lists(f"serving_default: {name} users", part, histories, expected)
        elif not _same_lists(part, answers[name]):
            yield f"serving_default: {name} users get other lists than from {name!r}"

    embedding = np.asarray(session.run(USER_EMBEDDING, {schema.EXAMPLES: examples})[EMBEDDING])
    if embedding.ndim != 2 or len(embedding) != len(users) or not np.isfinite(embedding).all():
        yield f"user_embedding: {embedding.shape}, it must be finite and [{len(users)}, D]"


def _wrong_lists(name, answer, seen, expected):
    ids, scores = np.asarray(answer[ITEM_IDS]), np.asarray(answer[SCORES])
    shape = (len(seen), expected.k)
    if ids.shape != shape or scores.shape != shape:
        yield f"{name}: lists are {ids.shape} and scores {scores.shape}, expected {shape}"
        return
    if not np.isfinite(scores).all():
        yield f"{name}: scores are not finite"
    elif (np.diff(scores, axis=1) > 0).any():
        yield f"{name}: scores increase along a list"
    for row, hidden in zip(ids, map(set, seen), strict=True):
        named = [item for item in row if item]
        left = len(expected.items - hidden)
        if not expected.items.issuperset(named):
            yield f"{name}: an item that is not in the vocabulary"
        elif len(set(named)) < len(named):
            yield f"{name}: an item twice in a list"
        elif hidden.intersection(named):
            yield f"{name}: an item of the history or of exclude came back"
        elif len(named) != min(expected.k, left) or any(row[len(named) :]):
            yield f"{name}: {len(named)} items in a list, expected {min(expected.k, left)}"
        else:
            continue
        return


def _same_lists(a, b):
    """Equal lists, but for neighbours whose scores tie within the tolerance."""
    scores = np.asarray(b[SCORES])
    if a[SCORES].shape != scores.shape or not np.allclose(
        a[SCORES], scores, rtol=TOLERANCE, atol=TOLERANCE
    ):
        return False
    moved = np.asarray(a[ITEM_IDS]) != np.asarray(b[ITEM_IDS])
    gaps = np.abs(np.diff(scores, axis=1, prepend=np.inf, append=-np.inf))
    tied = np.minimum(gaps[:, :-1], gaps[:, 1:]) <= 2 * TOLERANCE * (1 + np.abs(scores))
    # The last place ties with items beyond the list, which cannot be seen here.
    tied[:, -1] = True
    return bool((~moved | tied).all())


def _cold_inputs(users, features):
    known = {feature.name: feature.kind for feature in features}
    return cold_inputs([profile(user, features) for user in users], known)
