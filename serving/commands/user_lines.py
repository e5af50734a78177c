"""Reads users from lines of JSON, where a bad line never stops the others, and writes answers."""

import base64
import binascii
import json
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from cmclrec_tf.data import text_forms
from cmclrec_tf.errors import InputError

if TYPE_CHECKING:
    from serving.client import Recommendations, SimulatedHistory

UserId: TypeAlias = str | int | float | bool | None
UserLine: TypeAlias = tuple[dict[str, UserId], dict[str, Any] | InputError]
"""`{"user_id": id}`, or `{}` without an id, and the user without the id, or what is wrong."""

MAX_LINE_BYTES = 2**20
"""Longest line; a history of 100,000 items fits."""
# A group of users is sent together. Parsed JSON takes up to twenty times its bytes.
MAX_USERS = 2048
MAX_BYTES = 2**22
# As many as `text_forms` accepts. Without a limit, a number of a million digits takes seconds.
_MAX_DIGITS = 400
_MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8, with which some editors begin a file


class _RuleError(Exception):
    """A line breaks a rule; the arguments are the rule and the fix."""


def groups(file: BinaryIO) -> Iterator[list[UserLine]]:
    """Yields the users of a file in groups of bounded size, in order.

    Args:
        file: JSON lines in UTF-8; a byte order mark at the start and CRLF are allowed.
    """
    group: list[UserLine] = []
    size = 0
    for number, line in enumerate(_lines(file), 1):
        group.append(user_line(line, number))
        size += len(line)
        if len(group) == MAX_USERS or size >= MAX_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def user_line(line: bytes, number: int) -> UserLine:
    """Returns the id and the user of a line, or the id and what is wrong with the line.

    Args:
        line: one JSON object. One that is longer than MAX_LINE_BYTES may be cut.
        number: number of the line, for the error; the error never quotes the line.

    Example:
        >>> user_line(b'{"user_id": 7, "history": ["50"]}', 1)
        ({'user_id': 7}, {'history': ['50']})
        >>> print(user_line(b'{"age": NaN}', 2)[1])
        user 2: JSON has no NaN and no Infinity. Leave the value out, or write null.
    """
    try:
        user = _parsed(line, number)
        key = {"user_id": user.pop("user_id")} if "user_id" in user else {}
        if isinstance(key.get("user_id"), (dict, list, bytes)):
            raise _RuleError("its user_id must be a string or a number", "Correct the id.")
    except _RuleError as error:
        return {}, InputError(f"user {number}", *error.args)
    return key, user


def answer_line(
    answer: "Recommendations | Exception",
    simulated: "SimulatedHistory | None" = None,
    **fields: UserId,
) -> str:
    """Returns an answer, or the message of an error, as one JSON object in ASCII.

    An id that is not UTF-8 is `{"b64": ...}`, which a line of a user may hold, too.

    Args:
        answer: the list of a user, or why there is none.
        simulated: the simulated history of the user, if it is part of the answer.
        fields: fields to put first.
    """
    if isinstance(answer, Exception):
        return json.dumps({**fields, "error": str(answer)})
    values: dict[str, Any] = {
        "item_ids": _texts(answer.item_ids),
        "scores": _numbers(answer.scores),
        "version": answer.version,
        "signature": answer.signature,
        "is_cold": answer.is_cold,
        "known_items": answer.known_items,
        "source": answer.source,
    }
    if simulated is not None:
        values["simulated_history"] = {
            "item_ids": list(map(_texts, simulated.item_ids)),
            "scores": list(map(_numbers, simulated.scores)),
        }
    return json.dumps({**fields, **values}, allow_nan=False)


def _numbers(scores: Iterable[float]) -> list[float | None]:
    """Returns scores for JSON, which has no NaN and no infinity: only a broken model has them."""
    return [score if math.isfinite(score) else None for score in scores]


def _texts(items: Iterable[str]) -> list[str | dict[str, str]]:
    return [_text(item) for item in items]


def _text(item: str) -> str | dict[str, str]:
    """Returns an id, or `{"b64": ...}` if its bytes are not UTF-8, as TensorFlow Serving does."""
    try:
        item.encode()
    except UnicodeEncodeError:
        encoded = text_forms.to_bytes(item, "item id")
        return {"b64": base64.b64encode(encoded).decode()}
    return item


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yields lines; of a line that is too long only the beginning."""
    while line := file.readline(MAX_LINE_BYTES + 2):
        yield line
        while not line.endswith(b"\n") and (line := file.readline(MAX_LINE_BYTES)):
            pass  # the rest of a line that is too long


def _parsed(line: bytes, number: int) -> dict[str, Any]:
    line = line.rstrip(b"\r\n")
    if len(line) > MAX_LINE_BYTES:
        raise _RuleError(
            f"its line must have at most {MAX_LINE_BYTES} bytes", "Send the newest items only."
        )
    try:
        text = (line.removeprefix(_MARK) if number == 1 else line).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _RuleError(
            f"its line must be UTF-8, and byte {error.start + 1} is not", "Convert the file."
        ) from None
    try:
        user = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_short,
        )
        # Escapes such as \ud800 are JSON, but no text.
        json.dumps(user, ensure_ascii=False, default=str).encode()
    except RecursionError:
        raise _RuleError("its JSON is nested too deeply", "Write lists of values.") from None
    except UnicodeEncodeError:
        raise _RuleError("its text has a lone surrogate", "Write it in UTF-8.") from None
    except ValueError:
        user = None
    if not isinstance(user, dict):
        raise _RuleError("its line must hold a JSON object", "Correct the line's JSON.")
    return user


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | bytes:
    """Returns a dict, or the bytes of `{"b64": ...}`."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _RuleError("its JSON must name each key once", "Remove the repeated key.")
    if set(values) != {"b64"}:
        return values
    try:
        return base64.b64decode(values["b64"], validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _RuleError("its b64 must hold base64", "Encode the bytes in base64.") from None


def _refuse_constant(name: str) -> None:
    raise _RuleError("JSON has no NaN and no Infinity", "Leave the value out, or write null.")


def _finite(text: str) -> float:
    if len(text) > _MAX_DIGITS or math.isinf(number := float(text)):
        raise _RuleError("its numbers must be ones that a double can hold", "Correct the number.")
    return number


def _short(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _RuleError(f"a number must have at most {_MAX_DIGITS} digits", "Correct the number.")
    return int(text)
