"""Defines what a client returns, and what it raises, `ServingError`."""

import dataclasses

import grpc

from cmclrec_tf.errors import ReadableError
from serving.contract import SERVING_DEFAULT


class ServingError(ReadableError):
    """A request failed: the server is unreachable, too slow, or refuses it.

    Its message is one line with the target, the reason and the fix.

    Attributes:
        code: `grpc.StatusCode` of the failure.
        message: the line.

    Example:
        >>> from serving.client import Client, ServingError
        >>> with Client("127.0.0.1:8500", model_name="other") as client:
        ...     try:
        ...         client.recommend({"history": ["a"]})
        ...     except ServingError as error:
        ...         print(error.code.name)
        NOT_FOUND
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)

    def __reduce__(self) -> tuple[type["ServingError"], tuple[grpc.StatusCode, str]]:
        return type(self), (self.code, self.message)


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """One user's list of items, best first.

    Two lists are equal when their items and scores are.

    Attributes:
        item_ids: ids of the recommended items.
        scores: one score per item; comparable within this list only.
        version: version of the model that answered.
        signature: signature that answered, such as `warm`.
        is_cold: True if the list comes from user features alone. With `serving_default` the model
            decides this; with the other signatures it follows from the signature.
        known_items: number of items of the history that the model knows; None if the model does not
            say, as exports without this output.

    Example:
        >>> from serving.client import Recommendations
        >>> answer = Recommendations(("50", "181"), (7.5, 7.1), version=3, signature="warm")
        >>> answer.item_ids[0]
        '50'
        >>> answer == Recommendations(("50", "181"), (7.5, 7.1), version=4)
        True
    """

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    version: int | None = dataclasses.field(default=None, compare=False)
    signature: str | None = dataclasses.field(default=None, compare=False)
    is_cold: bool | None = dataclasses.field(default=None, compare=False)
    known_items: int | None = dataclasses.field(default=None, compare=False)

    @property
    def source(self) -> str | None:
        """What the list comes from: "history", "features" or "popular"; None if it is not known.

        A user with a history and no user features gets the most popular items if the model knows
        no item of the history.
        """
        if self.is_cold is None or self.is_cold:
            return "features" if self.is_cold else None
        if self.known_items is None:
            # The model takes a record without a known item for one of a cold user.
            return "history" if self.signature == SERVING_DEFAULT else None
        return "history" if self.known_items else "popular"


@dataclasses.dataclass(frozen=True)
class SimulatedHistory:
    """The history that the model simulates for a user without one, as the nearest real items.

    A simulated position is a vector, not an item. So each position has several items with their
    scores, nearest first; the oldest position comes first. Two are equal when their items and
    scores are.

    Attributes:
        item_ids: for each position, the ids of the nearest items.
        scores: for each position, the cosine of its vector with the embedding of each of these
            items; 1 is the same direction, 0 has nothing to do with it.
        version: version of the model that answered.

    Example:
        >>> from serving.client import Client
        >>> with Client("127.0.0.1:8500") as client:
        ...     simulated = client.simulated_history({"gender": "d", "genres": ["b"]})
        >>> simulated.item_ids  # two positions
        (('b', 'a'), ('d', 'a'))
        >>> simulated.scores[-1]
        (0.53125, 0.078125)
    """

    item_ids: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    version: int | None = dataclasses.field(default=None, compare=False)
