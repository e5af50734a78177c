"""Prepared datasets: records in memory to files, and files to batches."""

import pathlib
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from click.testing import CliRunner

import cmclrec_tf as cm
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.data.parsing import left_pad, newest_known, profile_key
from cmclrec_tf.data.prepared import PreparedDataset
from cmclrec_tf.data.vocabulary import Lookup, ReverseLookup, clean, read
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature
from cmclrec_tf.train_cli import train

RECORDS = {
    "train": [
        {"user_id": "a", "history": ["x", "y"], "target": ["z"], "color": "red", "n": 1.0},
        {"user_id": "b", "history": ["y"], "target": ["x"], "color": " red", "n": 5.0},
        {"user_id": "c", "history": ["y", "y"], "target": ["x"], "color": None, "n": None},
    ],
    "val": [
        {"user_id": "d", "history": ["x", "?", "z"], "target": ["?"], "color": "blue", "n": 3.0}
    ],
    "test": [
        {
            "user_id": "e",
            "history": [],
            "target": ["z"],
            "segment": "cold",
            "color": "red",
            "n": None,
        }
    ],
}
FEATURES = (Feature("color"), Feature("n", "numeric"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "data"
    return prepare_tables(RECORDS, FEATURES, folder, max_history=3)


def single_batch(dataset, split, **options):
    (batch,) = dataset.batches(split, 8, **options).as_numpy_iterator()
    return batch


def test_vocabularies_hold_the_train_split_most_frequent_first(small):
    assert read(small.vocabularies["items"]) == ["y", "x", "z"]
    assert read(small.vocabularies["color"]) == ["red"]
    assert small.schema.items == 5 and small.schema.features[0].size == 3


def test_numeric_statistics_come_from_the_train_split(small):
    number = small.schema.features[1]
    assert (number.mean, number.scale) == (3.0, 2.0)


def test_train_batch(small):
    batch = single_batch(small, "train", shuffle=False)
    np.testing.assert_array_equal(batch["history"], [[0, 3, 2], [0, 0, 2], [0, 2, 2]])
    np.testing.assert_array_equal(batch["target"], [[4], [3], [3]])
    np.testing.assert_array_equal(batch["features"]["color"], [[2], [2], [0]])
    np.testing.assert_array_equal(batch["features"]["n"], [[1.0], [5.0], [np.nan]])
    assert not batch["is_cold"].any()
    assert len(set(batch["user_key"])) == 3


def test_unknown_items_leave_the_history_and_stay_in_the_target(small):
    batch = single_batch(small, "val")
    np.testing.assert_array_equal(batch["history"], [[0, 3, 4]])
    np.testing.assert_array_equal(batch["target"], [[1]])
    np.testing.assert_array_equal(batch["features"]["color"], [[1]])


def test_cold_batch(small):
    batch = single_batch(small, "test")
    assert batch["is_cold"].all() and not batch["history"].any()
    assert small.user_ids("test") == ["e"]
    assert small.users == {"train": 3, "val": 1, "test": 1}


def test_equal_profiles_share_a_key(dataset):
    """Equal as feature tokens: the order of several values does not count."""
    batch = next(iter(dataset.batches("train", 96, shuffle=False)))
    features = {name: value.numpy() for name, value in batch["features"].items()}
    profiles = [
        tuple(tuple(np.sort(np.nan_to_num(v[row], nan=-1.0)).tolist()) for v in features.values())
        for row in range(96)
    ]
    assert len(set(profiles)) < 96
    keys = batch["profile_key"].numpy()
    for i in range(96):
        np.testing.assert_array_equal(keys == keys[i], [p == profiles[i] for p in profiles])


def test_profile_keys_ignore_order_and_unknown_values():
    one, two, three = (
        profile_key({"tags": tf.constant([tags]), "n": tf.constant([[number]])}).numpy()[0]
        for tags, number in (([2, 3, 1], 1e-9), ([3, 0, 2], 1e-9), ([3, 0, 2], 2e-9))
    )
    assert one == two != three


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ({"val": []}, "no train users"),
        ({"train": RECORDS["train"], "valid": []}, "splits are"),
        ({"train": [{**RECORDS["train"][0], "segment": "Cold"}]}, "segment 'Cold'"),
        ({"train": [{**RECORDS["train"][0], "colour": "red"}]}, "the fields are"),
        ({"train": [["a"]]}, "record 0 of train (a list): it must be a mapping"),
        ({"train": [{}, {**RECORDS["train"][0], "colour": "red"}]}, "record 0 of train"),
    ],
)
def test_bad_tables_write_nothing(records, text, tmp_path):
    with pytest.raises(InputError, match=re.escape(text)):
        prepare_tables(records, FEATURES, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"history": ["x", "a\nb"]}, "'a\\nb' in history of record 1 of val: ids and categories"),
        ({"history": ["i\r1"]}, "'i\\r1' in history of record 1 of val"),
        ({"target": [float("nan")]}, "target of record 1 of val (nan): it must not be missing"),
        ({"history": ["x", None]}, "history of record 1 of val (None): it must not be missing"),
        ({"history": [""]}, "history of record 1 of val (''): it must not be missing"),
        ({"history": None}, "history of record 1 of val (a NoneType): it must be a list"),
        ({"history": "xyz"}, "history of record 1 of val (a str): it must be a list"),
        ({"history": [["x"]]}, "history of record 1 of val (a list): it must be text or a number"),
        ({"history": ["\ud800"]}, "history of record 1 of val (a str): UTF-8 must be able"),
        ({"user_id": pd.NA}, "user_id of record 1 of val (<NA>): it must not be missing"),
        ({"user_id": "a\nb"}, "'a\\nb' in user_id of record 1 of val: ids and categories"),
        ({"color": "a\rb"}, "'a\\rb' in user feature 'color' of record 1 of val"),
        ({"color": ["red", "blue"]}, "user feature 'color' of record 1 of val with 2 strings"),
        ({"color": {"red": 1}}, "user feature 'color' of record 1 of val (a dict): it must be"),
        ({"n": "many"}, "'many' in user feature 'n' of record 1 of val: it must be a finite"),
        ({"n": float("inf")}, "inf in user feature 'n' of record 1 of val: it must be a finite"),
        ({"n": "1_000"}, "'1_000' in user feature 'n' of record 1 of val: it must be a finite"),
        ({"n": [1.0, 2.0]}, "user feature 'n' of record 1 of val with 2 numbers"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_of_a_value_names_record_and_field(values, text, tmp_path):
    records = {**RECORDS, "val": [RECORDS["val"][0], {**RECORDS["val"][0], **values}]}
    with pytest.raises(InputError, match=re.escape(text)):
        prepare_tables(records, FEATURES, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_values_have_the_text_of_the_one_rule_and_nan_is_missing(tmp_path):
    def user(name, history, color, tags, number):
        fields = {"user_id": name, "history": history, "target": [1], "color": color, "n": number}
        return {**fields, "tags": tags}

    features = (*FEATURES, Feature("tags", "multi"))
    nan = float("nan")
    users = [
        user(1, [1.0, np.int64(2)], 1.0, {3.0}, 7),
        user(2.0, [12345678901.0, "2"], "1", [nan, 3, None], nan),
        user("c", [b"2"], nan, nan, " "),
        user("d", ["\udcff", "\uffff", "\U0001f600"], pd.NA, np.array([]), "nan"),
    ]
    data = prepare_tables({"train": users}, features, tmp_path / "data", max_history=3)
    # Ties in the reverse order of the bytes, in which F0 and EF come before FF.
    tail = ["\udcff", "\U0001f600", "\uffff", "12345678901"]
    assert read(data.vocabularies["items"]) == ["1", "2", *tail]
    assert read(data.vocabularies["color"]) == ["1"]
    assert read(data.vocabularies["tags"]) == ["3"]
    assert data.user_ids("train") == ["1", "2", "c", "d"]
    batch = single_batch(data, "train", shuffle=False)
    np.testing.assert_array_equal(batch["features"]["tags"][:, 0], [2, 2, 0, 0])
    np.testing.assert_array_equal(batch["features"]["n"][:, 0], [7, nan, nan, nan])


@pytest.mark.parametrize("length", [0, -1, 2.5, True, None, 10**9])
def test_a_bad_history_length_writes_nothing(length, tmp_path):
    with pytest.raises(InputError, match="max_history="):
        prepare_tables(RECORDS, FEATURES, tmp_path / "data", length)
    assert list(tmp_path.iterdir()) == []


def test_tables_replace_only_a_prepared_dataset(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="only a prepared dataset is replaced"):
        prepare_tables(RECORDS, FEATURES, tmp_path)


def test_a_constant_column_keeps_its_scale(tmp_path):
    users = [{**RECORDS["train"][0], "user_id": str(n), "n": 12.34} for n in range(943)]
    data = prepare_tables({"train": users}, FEATURES, tmp_path / "data")
    assert data.schema.features[1].scale == 1.0


def test_left_pad_keeps_the_newest_known_items():
    rows = tf.ragged.constant([[2, 3, 4, 5], [], [1, 1], [6, 1, 0, 7]], dtype=tf.int64)
    np.testing.assert_array_equal(left_pad(rows, 3), [[3, 4, 5], [0, 0, 0], [0, 0, 0], [0, 6, 7]])


@pytest.mark.parametrize("width", [0, 1, 4, 9])
def test_the_newest_known_items_of_dense_ids_are_those_of_left_pad(width):
    ids = np.random.default_rng(width).integers(0, 6, (20, width), "int32")
    expected = left_pad(tf.RaggedTensor.from_tensor(ids), 4)
    np.testing.assert_array_equal(newest_known(tf.constant(ids), 4), expected)


def test_batches_have_a_cardinality_and_reshuffle(dataset):
    batches = dataset.batches("train", 40, seed=5)
    assert int(batches.cardinality()) == 3
    one, two = (np.concatenate([b["user_key"] for b in batches]) for _ in range(2))
    assert not np.array_equal(one, two) and set(one) == set(two)


def test_lookup_and_back(small):
    lookup = Lookup(small.vocabularies["items"])
    np.testing.assert_array_equal(lookup(tf.constant([["x", ""], ["?", "y"]])), [[3, 0], [1, 2]])
    back = ReverseLookup(small.vocabularies["items"])(tf.constant([0, 1, 2, 4, 5]))
    assert back.numpy().tolist() == [b"", b"", b"y", b"z", b""]


def test_clean_strips_and_cuts():
    raw = tf.constant([" 94110", "", "V3N"])
    assert clean(Feature("zip", prefix=1), raw).numpy().tolist() == [b"9", b"", b"V"]
    assert clean(Feature("zip"), raw).numpy().tolist() == [b"94110", b"", b"V3N"]


def test_missing_folder(tmp_path):
    with pytest.raises(InputError, match="cmclrec prepare"):
        PreparedDataset.load(tmp_path / "nowhere")


def test_load_takes_a_history_length_that_the_dataset_has(small, tmp_path):
    folder = pathlib.Path(small.files["train"][0]).parents[1]
    shorter = cm.load(folder, max_history=2)
    assert shorter.max_history == 2 and cm.load(folder).max_history == 3
    assert single_batch(shorter, "train")["history"].shape == (3, 2)
    copied = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copied / "train")  # an error about records would come later
    with pytest.raises(InputError, match="max_history=4: .*copy was prepared with 3"):
        cm.load(copied, max_history=4)
    for length in (0, -1, True, 2.0):
        with pytest.raises(InputError, match="it is a positive integer"):
            cm.load(folder, max_history=length)


def test_train_refuses_a_config_with_longer_histories_before_it_reads_records(small, tmp_path):
    folder = pathlib.Path(small.files["train"][0]).parents[1]
    copied = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copied / "train")
    result = CliRunner().invoke(train, [str(copied), "--out", str(tmp_path / "model.keras")])
    assert isinstance(result.exception, InputError)
    assert "data.max_history=50" in str(result.exception)


def test_missing_split_and_vocabulary(small, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(small.files["train"][0].rsplit("/", 2)[0], folder)
    shutil.rmtree(folder / "val")
    with pytest.raises(InputError, match="dataset.yaml says"):
        PreparedDataset.load(folder).batches("val")
    (folder / "vocabularies" / "color").unlink()
    with pytest.raises(InputError, match="vocabulary file must exist"):
        PreparedDataset.load(folder)
