"""A synthetic dataset that is easy to learn, and a tiny model trained on it, for all tests."""

import contextlib
import fcntl
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Two test workers share the cores, and spinning threads of one would slow down the other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# urllib and gRPC would send the tests' requests to servers on this machine through a proxy.
os.environ["no_proxy"] = f"127.0.0.1,localhost,::1,{os.environ.get('no_proxy', '')}"
os.environ["NO_PROXY"] = f"127.0.0.1,localhost,::1,{os.environ.get('NO_PROXY', '')}"

import numpy as np
import pytest

from cmclrec_tf.config import Config
from cmclrec_tf.schema import MULTI, NUMERIC, Feature

FEATURES = (
    Feature("age", NUMERIC),
    Feature("team"),
    Feature("tags", MULTI),
    Feature("zip", prefix=1),
)

TINY = {
    "data": {"max_history": 8},
    "model": {
        "width": 16,
        "latent": 8,
        "blocks": 1,
        "heads": 2,
        "dropout": 0.0,
        "expert_width": 0,
    },
    "pretrain": {"epochs": 4, "epoch_steps": 1, "batch_size": 32, "learning_rate": 0.005},
    "finetune": {
        "epochs": 12,
        "epoch_steps": 1,
        "ema": 0.5,
        "batch_size": 32,
        "learning_rate": 0.01,
        "feature_dropout": 0.2,
        "patience": 12,
    },
    "serve": {"list_length": 10},
}


def cluster_users(prefix, n, seed, segment="warm"):
    """Users of two teams with ten items each, which every user takes in the same circular order.

    The team is a user feature, so warm and cold users are both predictable.
    """
    rng = np.random.default_rng(seed)
    users = []
    for number in range(n):
        team = number % 2
        start, length = rng.integers(10), rng.integers(4, 9)
        walk = [f"i{team * 10 + (start + step) % 10}" for step in range(length + 1)]
        users.append(
            {
                "user_id": f"{prefix}{number}",
                "history": [] if segment == "cold" else walk[:-1],
                "target": walk[-1:],
                "segment": segment,
                "age": None if number % 7 == 0 else float(20 + 30 * team + rng.integers(5)),
                "team": f"team-{team}",
                "tags": [f"t{team}", "both"][: rng.integers(0, 3)],
                "zip": f"{team}{rng.integers(1000):04d}",
            }
        )
    return users


# These files share one run of the whole pipeline.
SHARE_A_RUN = ("tests/pipeline/test_pipeline_run.py", "tests/pipeline/test_after_a_run.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives a worker whole files, and all files that share a pipeline run to one worker."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return SHARE_A_RUN[0] if file in SHARE_A_RUN else file

    return Scheduling(config, log)


def one_quick(values, quick):
    """Returns parameters of a test that takes long: all but one are `slow`."""
    slow = pytest.mark.slow
    return [value if value == quick else pytest.param(value, marks=slow) for value in values]


@contextlib.contextmanager
def eagerly():
    """Runs functions without tracing, which is faster for a few steps; other tests trace them."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture
def eager():
    with eagerly():
        yield


@pytest.fixture(scope="session")
def config():
    return Config.from_dict(TINY)


@pytest.fixture(scope="session")
def records():
    test = cluster_users("w", 16, 3) + cluster_users("c", 16, 4, "cold")
    return {"train": cluster_users("u", 96, 1), "val": cluster_users("v", 32, 2), "test": test}


@pytest.fixture(scope="session")
def dataset(records, tmp_path_factory):
    from cmclrec_tf.data.in_memory import prepare_tables

    folder = tmp_path_factory.mktemp("prepared") / "clusters"
    return prepare_tables(records, FEATURES, folder, max_history=8, name="clusters")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A function (name, fill) -> folder; `fill(folder)` runs once, in the first worker to call."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def folder_of(name, fill):
        folder = root / name
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                partial = pathlib.Path(tempfile.mkdtemp(dir=root, prefix=name))
                fill(partial)
                partial.rename(folder)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def model_folder(dataset, config, shared_folder):
    """A folder with a trained CMCLRec (`model.keras`) and its TensorBoard logs (`logs`)."""
    from cmclrec_tf.training import train

    return shared_folder(
        "model",
        lambda folder: train(dataset, config, log_dir=folder / "logs").save(folder / "model.keras"),
    )


@pytest.fixture(scope="session")
def model(model_folder):
    """A trained CMCLRec."""
    import keras

    import cmclrec_tf.models  # noqa: F401 - registers the classes that the file names

    return keras.saving.load_model(model_folder / "model.keras")


@pytest.fixture(scope="session")
def exported(model, dataset, shared_folder):
    """The exported model: a version folder inside a model folder."""
    from serving.export.saved_model import export

    return shared_folder("cmclrec", lambda folder: export(model, dataset, folder / "1")) / "1"


@pytest.fixture(scope="session")
def session(exported):
    """The exported model, loaded through the C API as a C++ server loads it."""
    from serving.c_api.session import SavedModelSession

    with SavedModelSession(exported) as session:
        yield session
