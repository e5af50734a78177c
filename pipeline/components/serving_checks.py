"""Checks that an exported model answers as a server needs it, before it may be pushed."""

import dataclasses
from collections.abc import Generator, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tensorflow.core.example import example_pb2

from cmclrec_tf import schema
from pipeline.components.serving_lists import (
    TOLERANCE,
    Arrays,
    list_faults,
    position_faults,
    same_lists,
)
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
    NEAREST_ITEMS,
    SCORES,
    SERVING_DEFAULT,
    SIGNATURES,
    SIMULATED_HISTORY,
    USER_EMBEDDING,
    WARM,
)


@dataclasses.dataclass(frozen=True)
class ExportContract:
    """What one export must accept and return.

    Attributes:
        features: the inputs of the `cold` signature, see `Schema.inputs`.
        items: every item id that may be recommended.
        list_length: length K of the lists that the export was made for; if there are fewer items,
            lists are that much shorter.
        hides_history: whether items of the history never come back, see
            `EvaluateConfig.seen_items`; otherwise lists may hold them.
    """

    features: tuple[schema.Feature, ...]
    items: frozenset[bytes]
    list_length: int
    hides_history: bool = True

    @property
    def k(self) -> int:
        """Length of the lists."""
        return min(self.list_length, len(self.items))

    @property
    def nearest(self) -> int:
        """Number of the items that are nearest to a simulated position."""
        return min(NEAREST_ITEMS, len(self.items))


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
    lists, features = {ITEM_IDS, SCORES}, {f.name for f in contract.features}
    expected = {
        WARM: ({schema.HISTORY, schema.EXCLUDE}, lists | {KNOWN_ITEMS}),
        COLD: (features | {schema.EXCLUDE}, lists),
        SERVING_DEFAULT: ({schema.EXAMPLES}, lists | {IS_COLD, KNOWN_ITEMS}),
        USER_EMBEDDING: ({schema.EXAMPLES}, {EMBEDDING}),
        SIMULATED_HISTORY: (features, lists),
    }
    for name in (name for name in SIGNATURES if name in session.signatures):
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
    yield from _simulated_history_faults(session, [*cold, {}], contract)

    examples = np.array(records, object)
    outputs = session.run(SERVING_DEFAULT, {schema.EXAMPLES: examples})
    is_cold = np.asarray(outputs[IS_COLD]).astype(bool).reshape(-1)
    parts = {}
    for name in (WARM, COLD):
        if (is_cold[rows[name]] != (name == COLD)).any():
            yield f"serving_default: is_cold is wrong for {name} users"
        parts[name] = {key: np.asarray(outputs[key])[rows[name]] for key in (ITEM_IDS, SCORES)}
    if not same_lists(parts[COLD], answers[COLD]):
        yield "serving_default: cold users get other lists than from 'cold'"
    hidden = _hidden(histories, contract)
    warm_records = [records[i] for i in rows[schema.WARM]]
    names = [feature.name for feature in contract.features]
    without = session.run(SERVING_DEFAULT, {schema.EXAMPLES: _without(warm_records, names)})
    for who, lists in (("warm users", parts[WARM]), ("warm users without features", without)):
        yield from list_faults(f"serving_default: {who}", lists, hidden, contract.items, contract.k)
    yield from _lost_history_faults(session, warm_records, warm, parts[WARM], contract)

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
) -> Generator[str, None, dict[str, Arrays]]:
    """Calls `warm` and `cold` without and with excluded items; returns the first answers."""
    requests: dict[str, tuple[Arrays, Sequence[Sequence[bytes]]]] = {
        WARM: ({schema.HISTORY: padded(histories, schema.HISTORY)}, _hidden(histories, contract)),
        COLD: (_cold_inputs(cold_users, contract.features), [[] for _ in cold_users]),
    }
    answers = {}
    for name, (inputs, hidden) in requests.items():
        no_exclude = padded(None, schema.EXCLUDE, len(hidden))
        answers[name] = session.run(name, {**inputs, schema.EXCLUDE: no_exclude})
        yield from list_faults(name, answers[name], hidden, contract.items, contract.k)
        exclude = [[row[0], row[-1]] for row in np.asarray(answers[name][ITEM_IDS])]
        second = session.run(name, {**inputs, schema.EXCLUDE: padded(exclude, schema.EXCLUDE)})
        hidden = [[*a, *b] for a, b in zip(hidden, exclude, strict=True)]
        yield from list_faults(f"{name} with exclude", second, hidden, contract.items, contract.k)
    return answers


def _hidden(
    histories: Sequence[Sequence[bytes]], contract: ExportContract
) -> Sequence[Sequence[bytes]]:
    """Returns the items of each history that must not come back: all, or none."""
    return histories if contract.hides_history else [[] for _ in histories]


def _unknown_user_faults(session: SavedModelSession, contract: ExportContract) -> Iterator[str]:
    """Calls `warm` with an unknown item, and `cold` without any user feature."""
    requests: dict[str, Arrays] = {
        WARM: {schema.HISTORY: padded([[b"\x00 not an item"]], schema.HISTORY)},
        COLD: _cold_inputs([{}], contract.features),
    }
    for name, inputs in requests.items():
        answer = session.run(name, {**inputs, schema.EXCLUDE: padded(None, schema.EXCLUDE, 1)})
        where = f"{name} of an unknown user"
        yield from list_faults(where, answer, [[]], contract.items, contract.k)


def _simulated_history_faults(
    session: SavedModelSession, users: Sequence[ParsedRecord], contract: ExportContract
) -> Iterator[str]:
    """Calls `simulated_history`: every position has the nearest items of the vocabulary."""
    answer = session.run(SIMULATED_HISTORY, _cold_inputs(users, contract.features))
    yield from position_faults(
        SIMULATED_HISTORY, answer, len(users), contract.items, contract.nearest
    )


def _lost_history_faults(
    session: SavedModelSession,
    records: Sequence[bytes],
    users: Sequence[ParsedRecord],
    lists: Arrays,
    contract: ExportContract,
) -> Iterator[str]:
    """Calls `serving_default` for warm users without their histories.

    The lists must be those of `cold` for the user features alone, and other ones than with the
    history. `warm` cannot say what a warm user's list must be, as it reads no user features.

    Args:
        session: the loaded export.
        records: serialized records of warm users.
        users: the same records, parsed.
        lists: what `serving_default` returned for them.
        contract: what the export must return.
    """
    examples = _without(records, [schema.HISTORY])
    outputs = session.run(SERVING_DEFAULT, {schema.EXAMPLES: examples})
    exclude = padded(None, schema.EXCLUDE, len(users))
    inputs = {**_cold_inputs(users, contract.features), schema.EXCLUDE: exclude}
    alone = {key: outputs[key] for key in (ITEM_IDS, SCORES)}
    if not same_lists(alone, session.run(COLD, inputs)):
        yield "serving_default: warm users without a history get other lists than from 'cold'"
    if _scores_agree(lists, alone):
        yield "serving_default: the lists of warm users do not depend on the history"


def _without(records: Sequence[bytes], names: Sequence[str]) -> NDArray[np.object_]:
    """Returns serialized records without some of their fields."""
    examples = [example_pb2.Example.FromString(record) for record in records]
    for example in examples:
        for name in names:
            example.features.feature.pop(name, None)
    return np.array([example.SerializeToString() for example in examples], object)


def _scores_agree(a: Arrays, b: Arrays) -> bool:
    """Whether users have items that are in both of their lists, all with the same score in both."""
    pairs = []
    for ids, scores, other_ids, other_scores in zip(
        a[ITEM_IDS], a[SCORES], b[ITEM_IDS], b[SCORES], strict=True
    ):
        others = dict(zip(other_ids, other_scores, strict=True))
        pairs += [(score, others[i]) for i, score in zip(ids, scores, strict=True) if i in others]
    mine, theirs = np.array(pairs, float).reshape(-1, 2).T
    return bool(pairs) and np.allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE)


def _known_items_faults(
    name: str, answer: Arrays, histories: Sequence[Sequence[bytes]], contract: ExportContract
) -> Iterator[str]:
    """Checks the numbers of known items of histories."""
    expected = [sum(item in contract.items for item in history) for history in histories]
    if np.asarray(answer[KNOWN_ITEMS]).tolist() != expected:
        yield f"{name}: known_items is not the number of items of the history that are known"


def _cold_inputs(users: Sequence[ParsedRecord], features: Sequence[schema.Feature]) -> Arrays:
    kinds: Kinds = {f.name: f.numbers if f.numbers > 1 else f.served_kind for f in features}
    return cold_inputs([profile(user, features) for user in users], kinds)
