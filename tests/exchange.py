"""Writes a model and its answers for another set of packages, and reads those of another set.

`make exchange` runs it: what one set saves, the other one loads and answers alike.
"""

import json
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

import cmclrec_tf as cm
from cmclrec_tf.data.toy import toy_dataset
from serving.c_api.session import SavedModelSession
from serving.export.saved_model import export

INPUTS = {
    "history": [["books-1", "books-4"], ["films-0", ""], ["", ""]],
    "exclude": [["books-2"], [""], ["games-3"]],
    "group": ["books", "films", "unknown"],
    "age": np.array([31, np.nan, 8], np.float32),
}


def example(history, group, age):
    """Returns a serialized user for `serving_default`."""
    texts = {"history": [item for item in history if item], "group": [group]}
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))
        for name, values in texts.items()
    }
    numbers = [] if np.isnan(age) else [age]
    features["age"] = tf.train.Feature(float_list=tf.train.FloatList(value=numbers))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def versions():
    python = ".".join(map(str, sys.version_info[:2]))
    return f"Python {python}, TensorFlow {tf.__version__}, Keras {keras.__version__}"


def texts_or_numbers(values):
    """Returns an output of the C API as lists."""
    return (values.astype("S").astype("U") if values.dtype == object else values).tolist()


def answers_of(saved_model):
    """Returns {signature: {output: values}} of the C API, the same inputs for every signature."""
    users = zip(INPUTS["history"], INPUTS["group"], INPUTS["age"], strict=True)
    inputs = {**INPUTS, "examples": np.array([example(*user) for user in users], object)}
    answers = {}
    with SavedModelSession(saved_model) as session:
        for name, signature in session.signatures.items():
            outputs = session.run(name, {key: inputs[key] for key in signature.inputs})
            answers[name] = {key: texts_or_numbers(values) for key, values in outputs.items()}
    return answers


def metrics_of(model):
    return cm.evaluate(model, toy_dataset()).rows


def write(folder):
    """Trains a small model and saves it as a .keras file and as a SavedModel, with its answers."""
    dataset = toy_dataset()
    config = {**cm.Config.preset("tiny").to_dict(), "data": {"max_history": dataset.max_history}}
    model = cm.train(dataset, cm.Config.from_dict(config))
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    saved_model = export(model, dataset, folder / "saved_model" / "1")
    expected = {
        "versions": versions(),
        "answers": answers_of(saved_model),
        "metrics": metrics_of(model),
    }
    (folder / "expected.json").write_text(json.dumps(expected))


def read(folder):
    """Loads what `write` left, and compares its answers and metrics."""
    expected = json.loads((folder / "expected.json").read_text())
    compare(answers_of(folder / "saved_model" / "1"), expected["answers"])
    compare(metrics_of(keras.saving.load_model(folder / "model.keras")), expected["metrics"])
    print(f"{versions()} answers as {expected['versions']}: {sorted(expected['answers'])}")


def compare(found, expected, where=()):
    """Raises unless both are equal, numbers to 1e-4 and lists of items to two places in 100."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), (where, set(found), set(expected))
        for key, value in expected.items():
            compare(found[key], value, (*where, key))
    elif np.asarray(expected).dtype.kind in "fi":
        np.testing.assert_allclose(found, expected, 1e-4, 1e-4, err_msg=str(where))
    else:  # two items whose scores are almost the same may change places
        assert np.mean(np.asarray(found) == np.asarray(expected)) > 0.97, (where, found, expected)


def main():
    """Reads what all other sets left in the folder, and writes what this set leaves."""
    folder, packages = pathlib.Path(sys.argv[1]), sys.argv[2]
    for other in sorted(folder.glob("*")):
        if other.name != packages:
            read(other)
    if not (folder / packages).exists():
        write(folder / packages)


if __name__ == "__main__":
    main()
