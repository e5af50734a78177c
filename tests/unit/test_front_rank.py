"""The files that a newcomer sees first in each package are few, and file names are unique."""

import collections
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# The files directly in each package; everything else has a folder that says what it is for.
FRONT_RANK = {
    "cmclrec_tf": {
        "__init__.py",
        "py.typed",
        "training.py",
        "schema.py",
        "errors.py",
        "types.py",
        "augment.py",
        "cli.py",
        "train_cli.py",
        # What training needs, one file each.
        "callbacks.py",
        "checkpoints.py",
        "fitting.py",
        "replicas.py",
        "search.py",
        "warm_start.py",
    },
    # The list of TFX's penguin template.
    "pipeline": {
        "__init__.py",
        "Dockerfile",
        "configs.py",
        "pipeline.py",
        "data.py",
        "preprocessing.py",
        "trainer.py",
        "tuner.py",
    },
    "serving": {
        "__init__.py",
        "py.typed",
        "contract.py",
        "versions.py",
        "retrieval.py",
        "tensor_protos.py",
        "docker-compose.yaml",
        "kustomization.yaml",
    },
}

# Names that several folders may use, since they stand for the same kind of thing in each.
SHARED_NAMES = {
    "__init__.py",
    "base.py",  # the base class of the package
    "cli.py",  # the package's commands
    "run.py",  # `cmclrec pipeline run`, and the one command of the benchmarks
    "training.py",  # the driver of the model, and that of the baselines
    "versions.py",  # model versions on disk, and `cmclrec versions`
    "run_folders.py",  # what runs leave: the pipeline's in ML Metadata, an experiment's in folders
}


def files(folder):
    """Paths below a folder that are tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = map(pathlib.PurePath, listing.stdout.splitlines())
    return [path for path in paths if (ROOT / path).is_file()]


@pytest.mark.parametrize("package", FRONT_RANK)
def test_only_the_listed_files_are_directly_in_a_package(package):
    loose = {path.name for path in files(package) if str(path.parent) == package}
    folders = sorted({path.parts[1] for path in files(package) if len(path.parts) > 2})
    assert not loose - FRONT_RANK[package], (
        f"move them to the folder of {package}/ that says what they are for, one of {folders}, "
        "or add them to FRONT_RANK if a newcomer must see them first"
    )


def test_no_two_modules_share_a_name():
    packages = (*FRONT_RANK, "experiments", "benchmarks")
    paths = [path for package in packages for path in files(package) if path.suffix == ".py"]
    by_name = collections.defaultdict(list)
    for path in paths:
        by_name[path.name].append(str(path))
    repeated = {name: same for name, same in by_name.items() if len(same) > 1}
    unexpected = {name: repeated[name] for name in repeated.keys() - SHARED_NAMES}
    assert not unexpected, "name each after what it holds"
