"""Writes small raw datasets: twelve rows with known records, and clusters that can be learned."""

import pathlib

import numpy as np
import yaml

from cmclrec_tf.schema import COLD, TEST
from pipeline.transforms.split import assign_split

# With the salt 2059, ann is in train, bob is cold in test, cat is warm in test, fay is in val.
TWELVE_SALT = "2059"
# Ann's rows are out of order, and two of them have equal times; dan has only one event.
TWELVE = """\
user_id:token\titem_id:token\trating:float\ttime:float
ann\ti3\t5\t30
bob\ti1\t5\t11
ann\ti1\t4\t10
cat\ti4\t3\t7
ann\ti2\t1\t20
dan\ti9\t2\t1
bob\tb9\t2\t12
fay\ti2\t5\t5
ann\ti4\t4\t20
cat\ti1\t3\t8
fay\ti1\t5\t6
bob\ti5\t3\t12
"""
# Cat is missing, eve has no events, and fay's age and tags are empty.
TWELVE_USERS = """\
id,age,job,tags,ignored
bob,41,"cook, head",a|b,x
ann,23.5, nurse ,b,x
eve,99,cook,a,x
dan,18,cook,,x
fay,,clerk,,x
"""
TWELVE_SPEC = {
    "name": "twelve",
    "interactions": {
        "file": "log.inter",
        "delimiter": "\t",
        "user": "user_id",
        "item": "item_id",
        "time": "time",
    },
    "users": {
        "file": "users.csv",
        "id": "id",
        "features": [
            {"name": "age", "kind": "numeric"},
            {"name": "job"},
            {"name": "tags", "kind": "multi"},
        ],
    },
}


def write_spec(folder, spec):
    """Writes a dataset spec next to its files; returns its path."""
    path = pathlib.Path(folder) / f"{spec['name']}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def write_twelve(folder):
    """Writes the twelve rows and their users; returns the path of the spec."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.inter").write_text(TWELVE)
    (folder / "users.csv").write_text(TWELVE_USERS)
    return write_spec(folder, TWELVE_SPEC)


CLUSTERS_SPEC = {
    "name": "clusters",
    "interactions": {"file": "interactions.csv", "user": "user", "item": "item", "time": "time"},
    "users": {
        "file": "users.csv",
        "id": "user",
        "features": [
            {"name": "age", "kind": "numeric"},
            {"name": "job"},
            {"name": "hobbies", "kind": "multi"},
            {"name": "zip", "column": "zip_code", "prefix": 1},
        ],
    },
    "items": {"file": "items.csv", "id": "item", "title": "title"},
}


def write_clusters(folder, n_users=240, n_items=80, seed=0):
    """Writes a dataset with three groups of users, each of which has its own items.

    Cooks are the first group. Young nurses are the second group and old nurses the third, so job
    and age are both needed to recognise a group. A user visits the items of the group in a circle,
    with a jump now and then. Hobbies and zip carry no information, and some values are missing.

    Args:
        folder: folder to write, made if it is missing.
        n_users: number of users.
        n_items: number of items, a third for each group.
        seed: seeds all random numbers.

    Returns:
        Path of the dataset spec, in `folder`.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rings = np.array_split(np.arange(n_items), 3)
    users, events = ["user,age,job,hobbies,zip_code"], []
    for user in range(n_users):
        group = int(rng.integers(3))
        users.append(f"u{user},{_profile(rng, group)}")
        ring = rings[group]
        at, time = int(rng.integers(len(ring))), int(rng.integers(1000))
        for _ in range(int(rng.integers(6, 14))):
            events.append((rng.random(), f"u{user},it{ring[at]},{time}"))
            at = (at + 1 if rng.random() < 0.9 else int(rng.integers(len(ring)))) % len(ring)
            time += int(rng.integers(1, 5))
    log = ["user,item,time", *(row for _, row in sorted(events))]
    items = ["item,title", *(f'it{item},"Item {item}, a title"' for item in range(n_items))]
    for name, lines in (("interactions", log), ("users", users), ("items", items)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return write_spec(folder, CLUSTERS_SPEC)


def _profile(rng, group):
    young = rng.random() < 0.5 if group == 0 else group == 1
    age = int(rng.integers(20, 35) if young else rng.integers(50, 70))
    has_age = group or rng.random() < 0.9
    hobbies = rng.choice(["chess", "music", "running", "books"], rng.integers(0, 4), replace=False)
    job = "nurse" if group else "cook"
    return f"{age if has_age else ''},{job},{'|'.join(hobbies)},{rng.integers(10000, 99999)}"


def cold_users(data, n_users=240):
    """Returns the ids of the cold users of `write_clusters`, for the shares and salt of `data`."""
    users = [f"u{number}" for number in range(n_users)]
    return [user for user in users if assign_split(user.encode(), data) == (TEST, COLD)]


def one_line(error):
    """Returns the text of a caught error, which must be one line."""
    text = str(error.value)
    assert "\n" not in text
    return text
