"""Checks that an exported model answers as a server needs it, before it may be pushed."""

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from cmclrec_tf import schema
from pipeline.storage.folders import AnyPath
from pipeline.storage.records import ParsedRecord, parse, profile
from serving.c_api.session import SavedModelSession
from serving.client.inputs import Kinds, cold_inputs, padded
from serving.contract import (
    COLD,
    EMBEDDING,
    IS_COLD,
    ITEM_IDS,
    KNOWN_ITEMS,
    SCORES,
    SERVING_DEFAULT,
    SIGNATURES,
    USER_EMBEDDING,
    WARM,
)

# Batches of different shapes may be rounded differently in the last bits.
TOLERANCE = 1e-4

# Arrays by name, as a signature takes and returns them.
_Arrays: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ExportContract:
    """What one export must accept and return.

    Attributes:
        features: the user features, which are the inputs of the `cold` signature.
        items: every item id that may be recommended.
        list_length: length K of the lists that the export was made for; if there are fewer items,
            lists are that much shorter.
        is_blended: whether `serving_default` blends the warm and the cold path for warm users, see
            `ServeConfig.simulated_events`; otherwise they get the lists of `warm`.
        hides_history: whether items of the history never come back, see
            `EvaluateConfig.seen_items`; otherwise lists may hold them.
    """

    features: tuple[schema.Feature, ...]
    items: frozenset[bytes]
    list_length: int
    is_blended: bool = False
    hides_history: bool = True

    @property
    def k(self) -> int:
        """Length of the lists."""
        return min(self.list_length, len(self.items))


def check_export(folder: AnyPath, records: Sequence[bytes], contract: ExportContract) -> list[str]:
    """Loads an export with TensorFlow's C API and calls all its signatures.

    Args:
        folder: folder of the SavedModel.
        records: serialized user records of real warm and cold users.
        contract: what the export must accept and return.

    Returns:
        The reasons not to serve it, one line each; none if it is fit. They hold no data of users.
        A broken export gives reasons too, and never an exception.
    """
    users = [parse(record) for record in records]
    rows = {
        segment: [
            i
            for i, user in enumerate(users)
            if user[schema.SEGMENT] == [segment.encode()]
            # A history without a known item counts as no history.
            and (segment == schema.COLD or contract.items.intersection(user[schema.HISTORY]))
        ]
        for segment in (schema.WARM, schema.COLD)
    }
    reasons = [f"the test split has no {name} user to test with" for name in rows if not rows[name]]
    if reasons:
        return reasons
    try:
        session = SavedModelSession(folder)
    except Exception as error:  # A broken export may fail in any way; the verdict is the same.
        return [f"it cannot be loaded: {' '.join(str(error).split())[:300]}"]
    with session:
        reasons = list(_signature_faults(session, contract))
        if reasons:
            return reasons
        try:
            return list(_answer_faults(session, records, users, rows, contract))
        except Exception as error:
            # Its message is left out: it may quote a user's record.
            code = getattr(error, "code", "unknown")
            return [f"it cannot be called: {type(error).__name__}, status {code}"]


def _signature_faults(session: SavedModelSession, contract: ExportContract) -> Iterator[str]:
    """Checks the names of the signatures, and of their inputs and outputs."""
    for name in SIGNATURES:
        if name not in session.signatures:
            yield f"the signature {name!r} is missing"
    lists = {ITEM_IDS, SCORES}
    expected = {
        WARM: ({schema.HISTORY, schema.EXCLUDE}, lists | {KNOWN_ITEMS}),
        COLD: ({*(f.name for f in contract.features), schema.EXCLUDE}, lists),
        SERVING_DEFAULT: ({schema.EXAMPLES}, lists | {IS_COLD, KNOWN_ITEMS}),
        USER_EMBEDDING: ({schema.EXAMPLES}, {EMBEDDING}),
    }
    for name in set(SIGNATURES) & set(session.signatures):
        for side, names in zip(("inputs", "outputs"), expected[name], strict=True):
            actual = set(getattr(session.signatures[name], side))
            if actual != names:
                yield f"{name}: {side} are {sorted(actual)}, the contract says {sorted(names)}"


def _answer_faults(
    session: SavedModelSession,
    records: Sequence[bytes],
    users: Sequence[ParsedRecord],
    rows: dict[str, list[int]],
    contract: ExportContract,
) -> Iterator[str]:
    """Calls every signature and checks the outputs.

    Args:
        session: the loaded export.
        records: serialized user records.
        users: the same records, parsed.
        rows: positions of the users of each segment.
        contract: what the export must return.
    """
    warm = [users[i] for i in rows[schema.WARM]]
    cold = [users[i] for i in rows[schema.COLD]]
    histories = [user[schema.HISTORY] for user in warm]
    answers = yield from _warm_and_cold_faults(session, histories, cold, contract)
    yield from _known_items_faults(WARM, answers[WARM], histories, contract)
    yield from _unknown_user_faults(session, contract)

    examples = np.array(records, object)
    outputs = session.run(SERVING_DEFAULT, {schema.EXAMPLES: examples})
    is_cold = np.asarray(outputs[IS_COLD]).astype(bool).reshape(-1)
    for name in (WARM, COLD):
        if (is_cold[rows[name]] != (name == COLD)).any():
            yield f"serving_default: is_cold is wrong for {name} users"
        part = {key: np.asarray(outputs[key])[rows[name]] for key in (ITEM_IDS, SCORES)}
        if name == WARM and contract.is_blended:
            hidden = _hidden(histories, contract)
            yield from _list_faults(f"serving_default: {name} users", part, hidden, contract)
        elif not _same_lists(part, answers[name]):
            yield f"serving_default: {name} users get other lists than from {name!r}"

    yield from _known_items_faults(
        SERVING_DEFAULT, outputs, [user.get(schema.HISTORY, []) for user in users], contract
    )

    embedding = np.asarray(session.run(USER_EMBEDDING, {schema.EXAMPLES: examples})[EMBEDDING])
    if embedding.ndim != 2 or len(embedding) != len(users) or not np.isfinite(embedding).all():
        yield f"user_embedding: {embedding.shape}, it must be finite and [{len(users)}, D]"


def _warm_and_cold_faults(
    session: SavedModelSession,
    histories: Sequence[Sequence[bytes]],
    cold_users: Sequence[ParsedRecord],
    contract: ExportContract,
) -> Generator[str, None, dict[str, _Arrays]]:
    """Calls `warm` and `cold` without and with excluded items; returns the first answers."""
    requests: dict[str, tuple[_Arrays, Sequence[Sequence[bytes]]]] = {
        WARM: ({schema.HISTORY: padded(histories, schema.HISTORY)}, _hidden(histories, contract)),
        COLD: (_cold_inputs(cold_users, contract.features), [[] for _ in cold_users]),
    }
    answers = {}
    for name, (inputs, hidden) in requests.items():
        no_exclude = padded(None, schema.EXCLUDE, len(hidden))
        answers[name] = session.run(name, {**inputs, schema.EXCLUDE: no_exclude})
        yield from _list_faults(name, answers[name], hidden, contract)
        exclude = [[row[0], row[-1]] for row in np.asarray(answers[name][ITEM_IDS])]
        second = session.run(name, {**inputs, schema.EXCLUDE: padded(exclude, schema.EXCLUDE)})
        hidden = [[*a, *b] for a, b in zip(hidden, exclude, strict=True)]
        yield from _list_faults(f"{name} with exclude", second, hidden, contract)
    return answers


def _hidden(
    histories: Sequence[Sequence[bytes]], contract: ExportContract
) -> Sequence[Sequence[bytes]]:
    """Returns the items of each history that must not come back: all, or none."""
    return histories if contract.hides_history else [[] for _ in histories]


def _unknown_user_faults(session: SavedModelSession, contract: ExportContract) -> Iterator[str]:
    """Calls `warm` with an unknown item, and `cold` without any user feature."""
    requests: dict[str, _Arrays] = {
        WARM: {schema.HISTORY: padded([[b"\x00 not an item"]], schema.HISTORY)},
        COLD: _cold_inputs([{}], contract.features),
    }
    for name, inputs in requests.items():
        answer = session.run(name, {**inputs, schema.EXCLUDE: padded(None, schema.EXCLUDE, 1)})
        yield from _list_faults(f"{name} of an unknown user", answer, [[]], contract)


def _known_items_faults(
    name: str, answer: _Arrays, histories: Sequence[Sequence[bytes]], contract: ExportContract
) -> Iterator[str]:
    """Checks the numbers of known items of histories."""
    expected = [sum(item in contract.items for item in history) for history in histories]
    if np.asarray(answer[KNOWN_ITEMS]).tolist() != expected:
        yield f"{name}: known_items is not the number of items of the history that are known"


def _list_faults(
    name: str, answer: _Arrays, hidden: Sequence[Iterable[bytes]], contract: ExportContract
) -> Iterator[str]:
    """Checks lists of items; yields at most one fault of the items.

    Args:
        name: name of the call, for the reasons.
        answer: the outputs.
        hidden: the items of each user that must not come back.
        contract: what the export must return.
    """
    ids, scores = np.asarray(answer[ITEM_IDS]), np.asarray(answer[SCORES])
    shape = (len(hidden), contract.k)
    if ids.shape != shape or scores.shape != shape:
        yield f"{name}: lists are {ids.shape} and scores {scores.shape}, expected {shape}"
        return
    if not np.isfinite(scores).all():
        yield f"{name}: scores are not finite"
    elif (np.diff(scores, axis=1) > 0).any():
        yield f"{name}: scores increase along a list"
    for row, hidden_items in zip(ids, map(set, hidden), strict=True):
        items = [item for item in row if item]
        length = min(contract.k, len(contract.items - hidden_items))
        if not contract.items.issuperset(items):
            yield f"{name}: an item that is not in the vocabulary"
        elif len(set(items)) < len(items):
            yield f"{name}: an item twice in a list"
        elif hidden_items.intersection(items):
            yield f"{name}: an item of the history or of exclude came back"
        elif len(items) != length or any(row[len(items) :]):
            yield f"{name}: {len(items)} items in a list, expected {length}"
        else:
            continue
        return


def _same_lists(a: _Arrays, b: _Arrays) -> bool:
    """Compares lists; items may swap places if their scores tie within the tolerance."""
    scores = np.asarray(b[SCORES])
    if a[SCORES].shape != scores.shape or not np.allclose(
        a[SCORES], scores, rtol=TOLERANCE, atol=TOLERANCE
    ):
        return False
    moved = np.asarray(a[ITEM_IDS]) != np.asarray(b[ITEM_IDS])
    gaps = np.abs(np.diff(scores, axis=1, prepend=np.inf, append=-np.inf))
    tied = np.minimum(gaps[:, :-1], gaps[:, 1:]) <= 2 * TOLERANCE * (1 + np.abs(scores))
    # The last item may tie with items beyond the list, which are not visible here.
    tied[:, -1] = True
    return bool((~moved | tied).all())


def _cold_inputs(users: Sequence[ParsedRecord], features: Sequence[schema.Feature]) -> _Arrays:
    kinds: Kinds = {f.name: f.numbers if f.numbers > 1 else f.kind for f in features}
    return cold_inputs([profile(user, features) for user in users], kinds)
