"""Dataset specs, their files on this machine, and the errors of bad ones."""

import copy
import dataclasses
import hashlib
import subprocess
import sys
import zipfile

import pytest
import yaml

from cmclrec_tf.errors import InputError
from cmclrec_tf.schema import Feature
from pipeline.datasets import DatasetSpec, check, fetch, load_spec, titles
from pipeline.datasets.delimited import fields
from tests.pipeline.toy_datasets import (
    CLUSTERS_SPEC,
    TWELVE_SPEC,
    write_clusters,
    write_spec,
    write_twelve,
)


def _message(error):
    text = str(error.value)
    assert "\n" not in text
    return text


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
    assert "movielens-1000k" in _message(error) and "'movielens-100k'" in _message(error)


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
    assert message in _message(error)


@pytest.mark.parametrize("second", [{"kind": "multi"}, {"kind": "numeric", "numbers": 3}])
def test_features_of_one_column_have_one_separator(tmp_path, second):
    spec = copy.deepcopy(CLUSTERS_SPEC)
    first = {"name": "tags", "kind": "multi", "column": "words", "separator": ";"}
    second = {"name": "more", "column": "words", **second}
    spec["users"]["features"] = [first, {"name": "whole", "column": "words"}, second]
    with pytest.raises(InputError) as error:
        load_spec(_write(tmp_path, spec))
    assert "'tags' and 'more' with separators ';' and '|'" in _message(error)
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
    assert "must be YAML" in _message(error)
    (tmp_path / "broken.yaml").write_bytes("name: K\u00f6ln".encode("latin-1"))
    with pytest.raises(InputError) as error:
        load_spec(tmp_path / "broken.yaml")
    assert "broken.yaml: it must be UTF-8 text" in _message(error)


def test_missing_file(tmp_path):
    spec = load_spec(write_twelve(tmp_path))
    (tmp_path / "users.csv").unlink()
    with pytest.raises(InputError) as error:
        check(spec, tmp_path)
    assert "users.csv" in _message(error) and "--data-dir" in _message(error)


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
    assert "column 'time'" in _message(error)
    assert "['user_id', 'item_id', 'when']" in _message(error)


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


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A wheel with data, in a folder that pip installs from, and its spec; the cache is empty."""
    write_twelve(tmp_path / "raw")
    wheels = tmp_path / "index"
    wheels.mkdir()
    wheel = wheels / "toy_data-1.0-py3-none-any.whl"
    metadata = "toy_data-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("log.inter", "users.csv"):
            archive.write(tmp_path / "raw" / name, f"toy/{name}")
        archive.writestr(
            f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: toy-data\nVersion: 1.0\n"
        )
        archive.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{metadata}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setenv("CMCLREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    origin = {"package": "toy-data==1.0", "sha256": digest, "folder": "toy"}
    return wheel, DatasetSpec.from_dict({**TWELVE_SPEC, "source": origin})


def test_fetch_verifies_extracts_and_caches(source, tmp_path):
    wheel, spec = source
    folder = fetch(spec)
    assert folder == tmp_path / "cache" / "twelve" / spec.source.sha256[:16]
    assert (folder / "log.inter").read_bytes() == (tmp_path / "raw" / "log.inter").read_bytes()
    check(spec, folder)
    # From here on neither the index nor the wheel is needed.
    wheel.unlink()
    for cached in (tmp_path / "cache" / "wheels").iterdir():
        cached.unlink()
    assert fetch(spec) == folder


def test_a_damaged_cache_is_repaired(source, tmp_path):
    _, spec = source
    folder = fetch(spec)
    digests = folder / "SHA256SUMS"
    whole = digests.read_bytes()
    for damaged in (b"half a line\n", whole[:10], b"\xff\n", b"word\n\n", whole):
        digests.write_bytes(damaged)
        (folder / "users.csv").write_text("id\n")
        fetch(spec)
        assert (folder / "users.csv").read_bytes() == (tmp_path / "raw" / "users.csv").read_bytes()
        assert digests.read_bytes() == whole
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["twelve", "wheels"]


def test_another_pin_gets_other_files(source, tmp_path):
    wheel, spec = source
    old = fetch(spec)
    (tmp_path / "cache" / "wheels" / wheel.name).unlink()
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["toy/users.csv"] += b"new,1,cook,a,x\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pinned = dataclasses.replace(spec.source, sha256=digest)
    new = fetch(dataclasses.replace(spec, source=pinned))
    assert (new / "users.csv").read_bytes() == members["toy/users.csv"]
    assert fetch(spec) == old != new


def test_files_in_a_zip_file_of_the_wheel(source, tmp_path):
    wheel, spec = source
    with zipfile.ZipFile(tmp_path / "tables.zip", "w", zipfile.ZIP_DEFLATED) as tables:
        for name in spec.files:
            tables.write(tmp_path / "raw" / name, name)
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "tables.zip", "toy/more/tables.zip")
        archive.write(tmp_path / "raw" / "users.csv", "toy/more/text.zip")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pinned = dataclasses.replace(spec.source, sha256=digest, folder="toy/more")

    def fetched(archive, folder="toy/more"):
        changed = dataclasses.replace(pinned, archive=archive, folder=folder)
        return fetch(dataclasses.replace(spec, source=changed))

    with pytest.raises(InputError, match=r"toy/more/none.zip: .* must hold it"):
        fetched("none.zip")
    with pytest.raises(InputError, match=r"toy/more/text.zip in .*: it must be a zip file"):
        fetched("text.zip")
    folder = fetched("tables.zip")
    for name in spec.files:
        assert (folder / name).read_bytes() == (tmp_path / "raw" / name).read_bytes()
    assert not list(folder.glob("*.zip"))


@pytest.mark.parametrize("cached", [False, True])
def test_wrong_checksum_names_both_and_leaves_nothing(source, tmp_path, cached):
    wheel, spec = source
    expected = spec.source.sha256
    wheel.write_bytes(wheel.read_bytes() + b" ")
    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if cached:
        (tmp_path / "cache" / "wheels").mkdir(parents=True)
        wheel.rename(tmp_path / "cache" / "wheels" / wheel.name)
    with pytest.raises(InputError) as error:
        fetch(spec)
    assert expected in _message(error) and actual in _message(error)
    assert not (tmp_path / "cache" / "twelve").exists()
    assert cached or not any((tmp_path / "cache" / "wheels").iterdir())


def test_no_network_says_what_to_do(source, tmp_path):
    wheel, spec = source
    wheel.unlink()
    with pytest.raises(InputError) as error:
        fetch(spec)
    assert "toy-data==1.0" in _message(error)
    assert "--data-dir" in _message(error) and str(tmp_path / "cache" / "wheels") in _message(error)
    assert not (tmp_path / "cache" / "twelve").exists()


def test_data_dir_is_always_preferred(source, tmp_path):
    _, spec = source
    assert fetch(spec, tmp_path / "raw") == tmp_path / "raw"
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match="--data-dir"):
        fetch(spec, tmp_path / "nowhere")


def test_without_a_source_the_error_names_data_dir(tmp_path):
    with pytest.raises(InputError, match="--data-dir"):
        fetch(load_spec(write_twelve(tmp_path)))


def test_looking_at_files_needs_no_heavy_import():
    code = (
        "import sys, pipeline.datasets, pipeline.commands.prepare;"
        "heavy = {'tfx', 'apache_beam', 'tensorflow'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
