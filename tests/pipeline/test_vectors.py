"""A vector of numbers as one user feature, from the raw file to a served request."""

import copy

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from cmclrec_tf.config import Config
from cmclrec_tf.data.in_memory import prepare_tables
from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature
from cmclrec_tf.training import train
from pipeline.datasets import load_spec
from pipeline.transforms.user_records import UserRecords
from tests.conftest import TINY
from tests.pipeline.test_transforms import ANN, BOB, CAT, DATA, FAY, _pipeline
from tests.pipeline.toy_datasets import TWELVE, TWELVE_SPEC, TWELVE_USERS, write_spec

TASTES = {"ann": [0.5, -1.0, 2.0], "bob": [1.0, 0.0, 0.25], "fay": None, "eve": None, "dan": None}


def _spec(folder, users):
    (folder / "log.inter").write_text(TWELVE)
    changed = copy.deepcopy(TWELVE_SPEC)
    changed["users"]["features"].append({"name": "taste", "kind": "numeric", "numbers": 3})
    changed["users"]["file"] = users
    return load_spec(write_spec(folder, changed))


def _text(folder, tastes):
    header, *rows = TWELVE_USERS.splitlines()
    lines = [f"{header},taste"]
    for row in rows:
        taste = tastes[row.split(",")[0]]
        lines.append(f"{row},{'|'.join(map(str, taste)) if taste else ''}")
    (folder / "users.csv").write_text("\n".join(lines) + "\n")
    return _spec(folder, "users.csv")


def _parquet(folder):
    people = {
        "id": list(TASTES),
        "age": pa.array([23.5, 41.0, None, 99.0, 18.0]),
        "job": ["nurse", "cook, head", "clerk", "cook", "cook"],
        "tags": pa.array([["b"], ["a", "b"], [], ["a"], None], pa.list_(pa.string())),
        "taste": pa.array(list(TASTES.values()), pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(people), folder / "users.parquet")
    return _spec(folder, "users.parquet")


@pytest.mark.parametrize("parquet", [False, True])
def test_records_hold_all_numbers_or_none(tmp_path, parquet):
    spec = _parquet(tmp_path) if parquet else _text(tmp_path, TASTES)
    with _pipeline() as pipeline:
        splits = pipeline | UserRecords(spec, tmp_path, DATA)
        assert_that(splits["train"], equal_to([{**ANN, "taste": TASTES["ann"]}]), label="train")
        assert_that(splits["val"], equal_to([{**FAY, "taste": []}]), label="val")
        expected = [{**CAT, "taste": []}, {**BOB, "taste": TASTES["bob"]}]
        assert_that(splits["test"], equal_to(expected), label="test")


def test_another_number_of_numbers_is_malformed(tmp_path):
    spec = _text(tmp_path, {**TASTES, "ann": [1.0, 2.0]})
    message = "row 3 of .*: column 'taste' must hold 3 numbers"
    with pytest.raises(Exception, match=message), _pipeline() as pipeline:
        _ = pipeline | UserRecords(spec, tmp_path, DATA)


@pytest.mark.parametrize(("kind", "numbers"), [("categorical", 3), ("numeric", 0)])
def test_only_numbers_make_a_vector(kind, numbers):
    with pytest.raises(InputError, match=f"numbers={numbers}"):
        Feature("taste", kind, numbers=numbers)


FEATURES = (Feature("taste", "numeric", numbers=4, clip=(-3.0, 6.0)), Feature("zip"))


def _users(prefix, n, seed, segment="warm"):
    """Yields users of two teams that differ in their taste only."""
    rng = np.random.default_rng(seed)
    for number in range(n):
        team, start = number % 2, rng.integers(10)
        walk = [f"i{team * 10 + (start + step) % 10}" for step in range(6)]
        yield {
            "user_id": f"{prefix}{number}",
            "history": [] if segment == "cold" else walk[:-1],
            "target": walk[-1:],
            "segment": segment,
            "taste": None if number % 11 == 0 else list(rng.normal(3.0 * team, 0.3, 4)),
            "zip": f"z{rng.integers(3)}",
        }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    users = {
        "train": list(_users("u", 120, 1)),
        "val": list(_users("v", 40, 2)),
        "test": list(_users("c", 40, 3, "cold")),
    }
    folder = tmp_path_factory.mktemp("vectors")
    dataset = prepare_tables(users, FEATURES, folder / "data", max_history=8)
    return dataset, train(dataset, Config.from_dict(TINY))


def test_one_mean_and_scale_for_all_numbers(trained):
    taste, _ = trained[0].schema.features
    assert taste.mean == pytest.approx(1.5, abs=0.2) and taste.scale == pytest.approx(1.5, abs=0.2)
    batch = next(iter(trained[0].batches("train", 120, shuffle=False)))
    assert batch["features"]["taste"].shape == (120, 4)
    assert np.isnan(batch["features"]["taste"][0]).all()


def test_a_served_vector_decides_which_items_come_first(trained, tmp_path):
    from pipeline.transforms.encode import to_example
    from serving.c_api.session import SavedModelSession
    from serving.client.inputs import cold_inputs, feature_kinds
    from serving.export.saved_model import export

    dataset, model = trained
    export(model, dataset, tmp_path, Config.from_dict(TINY))
    with SavedModelSession(tmp_path) as session:
        kinds = feature_kinds(session.signatures["cold"])
        assert kinds == {"taste": 4, "zip": "categorical"}
        tastes = ([0.0] * 4, [3.0] * 4, None, [3.0, 3.0, None, 3.0], [1e9] * 4, [6.0] * 4)
        users = [{"taste": taste, "zip": "z1"} for taste in tastes]
        nothing = np.empty((len(users), 0), object)
        answer = session.run("cold", {**cold_inputs(users, kinds), "exclude": nothing})
        record = {"history": [], "taste": [1e9] * 4, "zip": [b"z1"]}
        records = np.array([to_example(record, FEATURES)], object)
        of_record = session.run("serving_default", {"examples": records})
    # The model clips numbers beyond the bounds, in both signatures.
    np.testing.assert_array_equal(answer["scores"][4], answer["scores"][5])
    np.testing.assert_allclose(of_record["scores"][0], answer["scores"][5], rtol=1e-5)
    lists = [[item.decode() for item in row[:5]] for row in np.asarray(answer["item_ids"])]
    teams = [{int(item[1:]) // 10 for item in items} for items in lists]
    assert teams[0] == {0} and teams[1] == {1}
    # A vector with a missing number is a missing vector.
    assert lists[2] == lists[3]
    with pytest.raises(InputError, match="'taste' of user 0 .* a list of 4 numbers"):
        cold_inputs([{"taste": [1.0]}], kinds)
    with pytest.raises(InputError, match="'taste' of user 0 .* a list of 4 numbers"):
        cold_inputs([{"taste": 1.0}], kinds)


@pytest.mark.slow
def test_an_export_with_a_vector_is_fit_to_serve(trained, tmp_path):
    from pipeline.components.serving_checks import ExportContract, check_export
    from pipeline.transforms.encode import to_example
    from serving.export.saved_model import export

    dataset, model = trained
    export(model, dataset, tmp_path, Config.from_dict(TINY))
    records = []
    for user in [*_users("w", 4, 5), *_users("c", 4, 6, "cold")]:
        fields = {**user, "taste": user["taste"] or []}
        text = {
            name: [value.encode() for value in ([values] if isinstance(values, str) else values)]
            for name, values in fields.items()
            if name != "taste"
        }
        records.append(to_example({**text, "taste": fields["taste"]}, FEATURES))
    items = frozenset(f"i{number}".encode() for number in range(20))
    contract = ExportContract(FEATURES, items, list_length=TINY["serve"]["list_length"])
    assert check_export(tmp_path, records, contract) == []
