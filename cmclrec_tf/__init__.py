"""CMCLRec on Keras: one model that recommends to users with a history and to new users.

`import cmclrec_tf` imports Keras and registers the models, so that `keras.saving.load_model` can
read their `.keras` files. `import cmclrec_tf.schema`, or any other module, imports that module
only, so the command line and the workers of a pipeline start without Keras.

Source of the method: Xu et al., CMCLRec, SIGIR 2024, doi:10.1145/3626772.3657839.

Example:
    >>> import cmclrec_tf as cm
    >>> cm.Config.preset("default").model.backbone
    'sasrec'
"""

import importlib
import importlib.metadata
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from cmclrec_tf.baselines.popularity import Popularity
    from cmclrec_tf.config import Config
    from cmclrec_tf.data.in_memory import prepare_tables
    from cmclrec_tf.data.prepared import PreparedDataset
    from cmclrec_tf.errors import InputError
    from cmclrec_tf.evaluation import evaluate, table
    from cmclrec_tf.models import CMCLRec, CrossModalMapper, PlainRecommender, Pretrain
    from cmclrec_tf.schema import Feature, Schema
    from cmclrec_tf.training import train, train_plain

_MODULES = {
    "CMCLRec": "cmclrec_tf.models",
    "Config": "cmclrec_tf.config",
    "CrossModalMapper": "cmclrec_tf.models",
    "Feature": "cmclrec_tf.schema",
    "InputError": "cmclrec_tf.errors",
    "PlainRecommender": "cmclrec_tf.models",
    "Popularity": "cmclrec_tf.baselines.popularity",
    "PreparedDataset": "cmclrec_tf.data.prepared",
    "Pretrain": "cmclrec_tf.models",
    "Schema": "cmclrec_tf.schema",
    "evaluate": "cmclrec_tf.evaluation",
    "prepare_tables": "cmclrec_tf.data.in_memory",
    "table": "cmclrec_tf.evaluation",
    "train": "cmclrec_tf.training",
    "train_plain": "cmclrec_tf.training",
}

# Packages of the extra `library`.
_LIBRARY = ("tensorflow", "keras")

__all__ = [
    "CMCLRec",
    "Config",
    "CrossModalMapper",
    "Feature",
    "InputError",
    "PlainRecommender",
    "Popularity",
    "PreparedDataset",
    "Pretrain",
    "Schema",
    "__version__",
    "evaluate",
    "load",
    "prepare_tables",
    "table",
    "train",
    "train_plain",
]


def load(folder: str, max_history: int | None = None) -> "PreparedDataset":
    """Reads a prepared dataset from its folder.

    Args:
        folder: path of the folder that `cmclrec prepare` or `prepare_tables` wrote.
        max_history: L, the number of a user's newest items in a batch; by default the number that
            the dataset was prepared with.

    Raises:
        InputError: the folder is missing, damaged or not a prepared dataset, or the dataset was
            prepared with shorter histories.

    Example:
        >>> import tempfile
        >>> import cmclrec_tf as cm
        >>> user = {"user_id": "ann", "history": ["tea"], "target": ["bread"], "age": 31.0}
        >>> folder = tempfile.mkdtemp()
        >>> _ = cm.prepare_tables({"train": [user]}, [cm.Feature("age", "numeric")], folder)
        >>> cm.load(folder).users["train"]
        1
        >>> cm.load("absent")
        Traceback (most recent call last):
        ...
        cmclrec_tf.errors.InputError: absent: a prepared dataset holds dataset.yaml. Run ...
    """
    from cmclrec_tf.data.prepared import PreparedDataset

    return PreparedDataset.load(folder, max_history)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("cmclrec-tf")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if error.name in _LIBRARY:
            raise _missing([error.name]) from None
        raise


def __dir__() -> list[str]:
    return __all__


def _imports_only_a_module() -> bool:
    """Whether this file runs because of `import cmclrec_tf.<module>`, not `import cmclrec_tf`."""
    frame: FrameType | None = sys._getframe(1)
    while frame:
        module = frame.f_locals.get("name", "")
        is_importlib = frame.f_code.co_filename.startswith("<frozen importlib")
        if is_importlib and str(module).startswith(f"{__name__}."):
            return True
        frame = frame.f_back
    return False


def _missing(packages: list[str]) -> ImportError:
    return ImportError(
        f"cmclrec_tf: {' and '.join(packages)} must be installed. "
        'Run pip install "cmclrec-tf[library]".'
    )


def _register_models() -> None:
    """Imports the models and baselines, which registers their classes with Keras.

    Raises:
        ImportError: the extra `library` is not installed.
    """
    if missing := [name for name in _LIBRARY if not importlib.util.find_spec(name)]:
        raise _missing(missing)
    importlib.import_module("cmclrec_tf.models")
    importlib.import_module("cmclrec_tf.baselines").load_all()


# Keras finds a class by the name it is registered under, so the classes must be imported before a
# model is loaded. That takes 0.2 s once Keras is imported. A process that has Keras without
# TensorFlow cannot load these models.
if {"keras", "tensorflow"} <= set(sys.modules) or not _imports_only_a_module():
    _register_models()
