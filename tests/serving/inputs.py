"""Converts the user records of tests/conftest.py to inputs of the signatures."""

import numpy as np
import tensorflow as tf


def strings(rows):
    """Pads lists of strings to an array [B, n]."""
    width = max((len(row) for row in rows), default=0)
    padded = [[*row, *[""] * (width - len(row))] for row in rows]
    return np.array(padded, object).reshape(len(rows), width)


def cold_inputs(users, exclude=None):
    return {**feature_inputs(users), "exclude": strings(exclude or [[] for _ in users])}


def feature_inputs(users):
    return {
        "age": np.array([np.nan if u["age"] is None else u["age"] for u in users], np.float32),
        "team": np.array([u["team"] for u in users], object),
        "tags": strings([u["tags"] for u in users]),
        "zip": np.array([u["zip"] for u in users], object),
    }


def warm_inputs(histories, exclude=None):
    return {"history": strings(histories), "exclude": strings(exclude or [[] for _ in histories])}


def record(user):
    """Serializes a user as a tf.Example."""

    def text(values):
        encoded = [value.encode() for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    age = [] if user["age"] is None else [user["age"]]
    fields = {
        "history": text(user["history"]),
        "age": tf.train.Feature(float_list=tf.train.FloatList(value=age)),
        "team": text([user["team"]]),
        "tags": text(user["tags"]),
        "zip": text([user["zip"]]),
    }
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()
