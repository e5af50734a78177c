"""A hand-made data set with a known answer, and one tiny model trained on it for all tests."""

import contextlib
import fcntl
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Two workers share the cores, and threads that wait for work take them from each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

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
    "model": {"width": 16, "latent": 8, "blocks": 1, "heads": 2, "dropout": 0.0},
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
    """Users of two teams; a team walks round its own ten items, so both segments are learnable."""
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


# They look at one run of the whole pipeline.
OF_ONE_RUN = ("tests/pipeline/test_pipeline_run.py", "tests/pipeline/test_after_a_run.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A worker takes a file as a whole, and one of them the files that share a pipeline run."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return OF_ONE_RUN[0] if file in OF_ONE_RUN else file

    return Scheduling(config, log)


@contextlib.contextmanager
def eagerly():
    """A few steps take less time than tracing them, which other tests do."""
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
def made_once(tmp_path_factory):
    """(name, make) -> a folder that `make(folder)` fills in the first worker that asks for it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder_of(name, make):
        folder = shared / name
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                partial = pathlib.Path(tempfile.mkdtemp(dir=shared, prefix=name))
                make(partial)
                partial.rename(folder)
        return folder

    return folder_of


@pytest.fixture(scope="session")
def model_folder(dataset, config, made_once):
    """The folder of a trained CMCLRec, `model.keras`, and of its TensorBoard logs, `logs`."""
    from cmclrec_tf.training import train

    return made_once(
        "model",
        lambda folder: train(dataset, config, log_dir=folder / "logs").save(folder / "model.keras"),
    )


@pytest.fixture(scope="session")
def model(model_folder):
    """A trained CMCLRec."""
    import keras

    import cmclrec_tf.models  # noqa: F401 - its classes are what the file names

    return keras.saving.load_model(model_folder / "model.keras")


@pytest.fixture(scope="session")
def exported(model, dataset, made_once):
    """The folder of its export, a version inside a model folder."""
    from serving.export.saved_model import export

    return made_once("cmclrec", lambda folder: export(model, dataset, folder / "1")) / "1"


@pytest.fixture(scope="session")
def session(exported):
    """The export, loaded as a C++ server loads it."""
    from serving.c_api.session import SavedModelSession

    with SavedModelSession(exported) as session:
        yield session
