"""Which split and segment a user is drawn into: a pure function of the user id."""

import hashlib

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import COLD, TEST, TRAIN, VAL, WARM


def position(user_id, salt):
    """A number in [0, 1) that is fixed for a user and a salt, and uniform over users.

    Args:
        user_id: bytes.
        salt: str, the hash's key; another salt is another draw.

    Raises:
        InputError: a salt of more than 64 bytes.
    """
    key = salt.encode()
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        raise InputError(f"data.salt={salt!r}", "it must have at most 64 bytes", "Shorten it.")
    digest = hashlib.blake2b(user_id, key=key, digest_size=8).digest()
    # 53 bits are what a float holds exactly; more could round up to 1.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def draw(user_id, data):
    """The split and the segment of a user.

    Args:
        user_id: bytes.
        data: `DataConfig`: salt, test_share, val_share.

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
