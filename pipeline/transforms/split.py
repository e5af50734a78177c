"""Assigns users to splits and segments by a keyed hash of the user id."""

import hashlib

from cmclrec_tf.config import DataConfig
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, TEST, TRAIN, VAL, WARM


def position(user_id: bytes, salt: str) -> float:
    """Hashes a user id to a number in [0, 1) that is uniform over users.

    Args:
        user_id: id as in the raw files.
        salt: key of the hash; another salt gives other splits.

    Raises:
        InputError: a salt of more than 64 bytes.
    """
    key = salt.encode()
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        raise InputError(f"data.salt={salt!r}", "it must have at most 64 bytes", "Shorten it.")
    digest = hashlib.blake2b(user_id, key=key, digest_size=8).digest()
    # A float holds 53 bits exactly; more could round up to 1.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def assign_split(user_id: bytes, data: DataConfig) -> tuple[str, str]:
    """Returns the split and the segment of a user, the same on every worker and in every run.

    Args:
        user_id: id as in the raw files.
        data: settings of the data, of which salt, test_share and val_share count.

    Returns:
        `(split, segment)`.
    """
    at = position(user_id, data.salt)
    if at < data.test_share / 2:
        return TEST, COLD
    if at < data.test_share:
        return TEST, WARM
    rest = (at - data.test_share) / (1 - data.test_share)
    return (TRAIN if rest < 1 - data.val_share else VAL), WARM


def assign_before(user_id: bytes, data: DataConfig) -> str:
    """Returns the split of a user's events before T, with `data.split: time`: train or val.

    Args:
        user_id: id as in the raw files.
        data: settings of the data, of which salt and val_share count.
    """
    return TRAIN if position(user_id, data.salt) < 1 - data.val_share else VAL
