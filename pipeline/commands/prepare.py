"""Makes a prepared dataset from raw files."""

import dataclasses
import pathlib
import sys

from cmclrec_tf.config import Config
from cmclrec_tf.processes import locks
from pipeline import configs
from pipeline.datasets import DatasetSpec, check, fetch, load_spec
from pipeline.runners.quiet import quiet
from pipeline.storage.folders import AnyPath, make_folder


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The result of `prepare`.

    Attributes:
        folder: folder of the prepared dataset.
        data_dir: folder of the raw files.
        spec: the dataset's spec.
        counts: `{counter: number}` of users and rows, see `pipeline.transforms.counters`.
    """

    folder: pathlib.Path
    data_dir: AnyPath
    spec: DatasetSpec
    counts: dict[str, int]


def prepare(
    dataset: str | pathlib.Path,
    out: AnyPath | None,
    config: Config,
    data_dir: AnyPath | None = None,
    root: AnyPath = configs.ROOT,
) -> Prepared:
    """Runs the data half of the pipeline and copies its results to one folder.

    It shares its cache with the whole pipeline.

    Args:
        dataset: name of a dataset, or path of a dataset spec.
        out: folder of the prepared dataset; None is `<root>/prepared/<dataset>`. An older prepared
            dataset there is replaced.
        config: the config; only `data` is used.
        data_dir: folder of the raw files; None downloads them.
        root: folder for the pipeline's artifacts, metadata and logs.

    Raises:
        InputError: the spec or the raw files are wrong, a folder cannot be written, or `out` holds
            something else.
    """
    spec = load_spec(dataset)
    folders = configs.Folders(pathlib.Path(root), spec.name)
    data_dir = fetch(spec, data_dir)
    check(spec, data_dir, config.data)
    folder = pathlib.Path(out or pathlib.Path(root) / "prepared" / spec.name).absolute()
    folders.make()
    make_folder(folder.parent, "Give another folder by --out.")
    print("Loading TFX (about half a minute) ...", file=sys.stderr, flush=True)
    with quiet(folders.logs / "import.log"):
        from cmclrec_tf.data.description import check_replaceable

        check_replaceable(folder)
        from pipeline.commands import prepared_folder
        from pipeline.components.example_gen import COMPONENT
        from pipeline.components.population import report
        from pipeline.data import data_pipeline
        from pipeline.metadata.outputs import Outputs
        from pipeline.runners import local

    # Else another run could put its own artifacts in the place of those that are copied here.
    with locks.waiting(folders.lock):
        local.run(data_pipeline(spec, data_dir, config, folders))
        outputs = Outputs(folders.metadata, folders.pipeline_name)
        counts = prepared_folder.write(folder, spec, config.data.max_history, outputs)
        users = report(outputs.artifact(COMPONENT, "examples"))
    print(f"{folder}: {users}", file=sys.stderr, flush=True)
    return Prepared(folder, data_dir, spec, counts)
