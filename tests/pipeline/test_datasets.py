"""Dataset specs, their files on this machine, and the errors of bad ones."""

import copy
import subprocess
import sys

import pytest
import yaml

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature
from pipeline.datasets import DatasetSpec, check, load_spec, titles
from pipeline.datasets.delimited import fields
from tests.pipeline.toy_datasets import (
    CLUSTERS_SPEC,
    TWELVE_SPEC,
    one_line,
    write_clusters,
    write_spec,
    write_twelve,
)


def test_movielens_spec():
    spec = load_spec("movielens-100k")
    assert spec.features == (
        Feature("age", "numeric"),
        Feature("gender"),
        Feature("occupation"),
        Feature("zip", prefix=1),
    )
    assert spec.files == ("ml-100k.inter", "ml-100k.user", "ml-100k.item")
    assert [column.column for column in spec.users.features][-1] == "zip_code"
    assert spec.interactions.delimiter == "\t"


def test_a_spec_survives_a_round_trip_through_a_dict():
    spec = load_spec("movielens-100k")
    assert DatasetSpec.from_dict(spec.to_dict()) == spec


def test_a_spec_by_its_path(tmp_path):
    spec = load_spec(write_clusters(tmp_path))
    assert spec.name == "clusters"
    assert spec.features[2] == Feature("hobbies", "multi")
    check(spec, tmp_path)


def test_unknown_dataset_names_those_that_exist():
    with pytest.raises(InputError) as error:
        load_spec("movielens-1000k")
    assert "movielens-1000k" in one_line(error) and "'movielens-100k'" in one_line(error)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("interactions", "users"), "x", "spec.interactions.users: the keys"),
        (("users", "features", 0, "kind"), "number", "'number'"),
        (("users", "features", 0, "name"), "history", "history"),
        (("users", "features"), [], "user features"),
        (("users", "features"), {"age": "numeric"}, "must be a list"),
        (("users", "features", 0, "prefix"), "1", "of type int"),
        (("interactions", "delimiter"), "", "spec.interactions.delimiter"),
        (("interactions", "keep"), {"column": "x"}, "at_least or one_of"),
        (("interactions", "keep"), {"column": "x", "at_least": 1, "one_of": ["1"]}, "not both"),
        (("interactions", "keep"), {"column": "x", "at_least": "2"}, "of type float"),
        (("interactions", "keep"), {"column": "x", "at_least": True}, "of type float"),
        (("interactions", "drop_duplicates"), "yes", "of type bool"),
        (("interactions", "time_decimals"), 10, "between 0 and 9"),
        (("users", "features", 0, "most_values"), 9, "most_values=9"),
        (("users", "features", 1, "most_values"), -1, "most_values=-1"),
        (("max_rejects",), -1, "0 or more"),
        (("name",), "../up", "'../up'"),
        (("source",), {"package": "x", "sha256": "0", "folder": "f"}, "pinned by =="),
        (("source",), {"package": "x==1", "sha256": "0", "folder": "f"}, "64 hexadecimal"),
    ],
)
def test_bad_specs_are_named(tmp_path, keys, value, message):
    spec = copy.deepcopy(CLUSTERS_SPEC)
    inner = spec
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises(InputError) as error:
        load_spec(_write(tmp_path, spec))
    assert message in one_line(error)


@pytest.mark.parametrize("second", [{"kind": "multi"}, {"kind": "numeric", "numbers": 3}])
def test_features_of_one_column_have_one_separator(tmp_path, second):
    spec = copy.deepcopy(CLUSTERS_SPEC)
    first = {"name": "tags", "kind": "multi", "column": "words", "separator": ";"}
    second = {"name": "more", "column": "words", **second}
    spec["users"]["features"] = [first, {"name": "whole", "column": "words"}, second]
    with pytest.raises(InputError) as error:
        load_spec(_write(tmp_path, spec))
    assert "'tags' and 'more' with separators ';' and '|'" in one_line(error)
    second["separator"] = ";"
    assert len(load_spec(_write(tmp_path, spec)).features) == 3


def _write(folder, spec):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_missing_key_and_bad_yaml(tmp_path):
    spec = {key: value for key, value in CLUSTERS_SPEC.items() if key != "users"}
    with pytest.raises(InputError, match=r"spec\.users: this key is missing"):
        load_spec(_write(tmp_path, spec))
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(InputError) as error:
        load_spec(tmp_path / "broken.yaml")
    assert "must be YAML" in one_line(error)
    (tmp_path / "broken.yaml").write_bytes("name: K\u00f6ln".encode("latin-1"))
    with pytest.raises(InputError) as error:
        load_spec(tmp_path / "broken.yaml")
    assert "broken.yaml: it must be UTF-8 text" in one_line(error)


def test_missing_file(tmp_path):
    spec = load_spec(write_twelve(tmp_path))
    (tmp_path / "users.csv").unlink()
    with pytest.raises(InputError) as error:
        check(spec, tmp_path)
    assert "users.csv" in one_line(error) and "--data-dir" in one_line(error)


def test_empty_file(tmp_path):
    spec = load_spec(write_twelve(tmp_path))
    (tmp_path / "log.inter").write_text("")
    with pytest.raises(InputError, match="first line"):
        check(spec, tmp_path)


def test_a_missing_column_names_the_columns_of_the_file(tmp_path):
    spec = load_spec(write_twelve(tmp_path))
    (tmp_path / "log.inter").write_text("user_id:token\titem_id:token\twhen:float\n")
    with pytest.raises(InputError) as error:
        check(spec, tmp_path)
    assert "column 'time'" in one_line(error)
    assert "['user_id', 'item_id', 'when']" in one_line(error)


def test_feature_without_a_column(tmp_path):
    write_twelve(tmp_path)
    spec = copy.deepcopy(TWELVE_SPEC)
    spec["users"]["features"].append({"name": "height", "kind": "numeric"})
    with pytest.raises(InputError, match="column 'height' of .*users.csv"):
        check(load_spec(write_spec(tmp_path, spec)), tmp_path)


def test_byte_order_mark_and_quotes(tmp_path):
    spec = load_spec(write_twelve(tmp_path))
    text = (tmp_path / "users.csv").read_text().replace("id,age", '"id",age')
    (tmp_path / "users.csv").write_text("\ufeff" + text)
    check(spec, tmp_path)
    assert fields(b'1,"a, ""b""",\xff', ",") == [b"1", b'a, "b"', b"\xff"]
    assert fields(b'1\t"a\tb"', "\t") == [b"1", b'"a', b'b"']


def test_titles(tmp_path):
    spec = load_spec(write_clusters(tmp_path, n_items=9))
    names = titles(spec, tmp_path)
    assert len(names) == 9
    assert names["it7"] == "Item 7, a title"
    with open(tmp_path / "items.csv", "ab") as file:
        file.write(b"it\xff,One\nit\xfe,Two\n")
    names = titles(spec, tmp_path)
    assert (names["it\udcff"], names["it\udcfe"]) == ("One", "Two")
    assert titles(load_spec(write_twelve(tmp_path)), tmp_path) == {}


def test_looking_at_files_needs_no_heavy_import():
    code = (
        "import sys, pipeline.datasets, pipeline.commands.prepare;"
        "heavy = {'tfx', 'apache_beam', 'tensorflow'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
