"""What a client gives back: lists, or the error of a server that did not answer."""

import dataclasses

from cmclrec_tf.errors import ReadableError


class ServingError(ReadableError):
    """A server that did not answer, or refused to; one line with target, reason and mend.

    Attributes:
        code: `grpc.StatusCode`.
    """

    def __init__(self, code, message):
        self.code, self.message = code, message
        super().__init__(message)

    def __reduce__(self):
        return type(self), (self.code, self.message)


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """One user's list, best first. Two are equal when their items and scores are.

    Attributes:
        item_ids: of the items.
        scores: one an item; comparable within one answer only.
        version: of the model that answered.
        signature: that answered, such as `warm`.
        is_cold: whether the user was answered from user features alone; `serving_default` tells
            what the model decided.
    """

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    version: int | None = dataclasses.field(default=None, compare=False)
    signature: str | None = dataclasses.field(default=None, compare=False)
    is_cold: bool | None = dataclasses.field(default=None, compare=False)
