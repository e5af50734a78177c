"""Settings of the data: how user records are made, and how they are divided into splits."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cmclrec_tf.config import checks

# Values of `data.split`.
BY_USERS, LEAVE_ONE_OUT, BY_TIME = "users", "leave-one-out", "time"
# The settings of `data` that decide what is in which split.
SPLIT_SETTINGS = ("split", "salt", "test_share", "val_share", "split_time")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How user records are made from a log of interactions, and how users are split.

    Attributes:
        max_history: L, the number of a user's newest items that are kept as the history.
        min_events: users with fewer events than this are dropped; at least 2. With `split: time`
            only events before T count, and users without any are not dropped but cold.
        split: `users` holds out whole users, half of the test users as cold. `leave-one-out` holds
            out the last two items of every user and makes no user cold, for comparisons with
            published tables of sequential recommenders. `time` trains on all events before a time
            T; cold test users are those whose first event is at T or later.
        target: items that a cold user is evaluated on: the `last` one, or `all` that were removed.
            With `split: time`, `last` stands for the first one after T.
        salt: key of the hash that assigns users to splits; another salt gives other splits.
        test_share: share of the users held out for test, in (0, 1); half of these are cold. With
            `split: time`, the share of the events that lie at T or later, if nothing else says
            what T is.
        val_share: share of the remaining users held out for validation, in (0, 1).
        split_time: T of `split: time`, written as the times of the log are, or in ISO 8601 where
            these are dates. Without it `interactions.test_period` of the dataset spec says which
            events lie at T or later, and without both `test_share` does.
    """

    max_history: int = 50
    min_events: int = 5
    split: str = BY_USERS
    target: str = "last"
    salt: str = "0"
    test_share: float = 0.3
    val_share: float = 0.2
    split_time: str = ""

    def __post_init__(self) -> None:
        checks.types_of(self)
        checks.positive(self, "max_history", "test_share", "val_share")
        checks.at_most(self, 2**16, "max_history")
        checks.check(
            self.min_events >= 2, "min_events", self.min_events, "a history and a target need 2"
        )
        checks.share(self, "test_share", "val_share")
        checks.one_of(self, "split", (BY_USERS, LEAVE_ONE_OUT, BY_TIME))
        checks.check(
            self.split != LEAVE_ONE_OUT or self.min_events >= 4,
            "min_events",
            self.min_events,
            "leave-one-out holds out 2 items, and a history and a target need 2",
        )
        checks.one_of(self, "target", ("last", "all"))
        # It is the key of a hash. UTF-8 has no surrogates.
        is_text = not any(0xD800 <= ord(letter) < 0xE000 for letter in self.salt)
        is_key = is_text and len(self.salt.encode()) <= 64
        checks.check(is_key, "salt", self.salt, "it must have at most 64 bytes of UTF-8")
        checks.check(
            self.split == BY_TIME or not self.split_time,
            "split_time",
            self.split_time,
            f"only split={BY_TIME!r} has a time, and split is {self.split!r}",
        )

    @property
    def has_cold_users(self) -> bool:
        """Whether the split has cold test users."""
        return self.split != LEAVE_ONE_OUT

    @property
    def held_out(self) -> str:
        """What training does not see, in words."""
        return "events after T" if self.split == BY_TIME else "users of the test split"


def split_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that decide what is in which split.

    Args:
        data: `DataConfig` as a dict, also one of an earlier run, which may lack a setting.

    Returns:
        `{name: value}`, without settings that are empty.
    """
    return {name: data[name] for name in SPLIT_SETTINGS if data.get(name)}
