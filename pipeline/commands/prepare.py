"""From raw files to a prepared dataset."""

import dataclasses
import pathlib
import sys

from pipeline import configs
from pipeline.datasets import DatasetSpec, check, fetch, load_spec
from pipeline.runners.quiet import quiet
from pipeline.storage.folders import make_folder


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What `prepare` left.

    Attributes:
        folder: the prepared dataset.
        data_dir: the raw files.
        spec: the `DatasetSpec`.
        counts: counter -> number, see `pipeline.transforms.counters`.
    """

    folder: pathlib.Path
    data_dir: pathlib.Path | str
    spec: DatasetSpec
    counts: dict


def prepare(dataset, out, config, data_dir=None, root=configs.ROOT):
    """Runs the data half of the pipeline and leaves a prepared dataset.

    Components whose input, spec and config have not changed are answered from the cache, which is
    that of the whole pipeline.

    Args:
        dataset: name of a dataset, or path of a dataset spec.
        out: folder of the prepared dataset; None is `<root>/prepared/<dataset>`. An older prepared
            dataset there is replaced.
        config: `Config`, of which `data` is used.
        data_dir: folder of the raw files; None fetches them.
        root: folder of the pipeline's artifacts and metadata.

    Returns:
        `Prepared`.

    Raises:
        InputError: bad data, a bad spec, a folder that cannot be written, or one that holds
            something else.
    """
    spec = load_spec(dataset)
    folders = configs.Folders(pathlib.Path(root), spec.name)
    data_dir = fetch(spec, data_dir)
    check(spec, data_dir)
    out = pathlib.Path(out or pathlib.Path(root) / "prepared" / spec.name).absolute()
    folders.make()
    make_folder(out.parent, "Give another folder by --out.")
    print("Loading TFX (about half a minute) ...", file=sys.stderr, flush=True)
    with quiet(folders.logs / "import.log"):
        from cmclrec_tf.data.prepared import check_replaceable

        check_replaceable(out)
        from pipeline.commands import prepared_folder
        from pipeline.components.population import summary
        from pipeline.data import data_pipeline
        from pipeline.metadata.outputs import Outputs
        from pipeline.runners import local

    local.run(data_pipeline(spec, data_dir, config, folders))
    outputs = Outputs(folders.metadata, folders.pipeline_name)
    counts = prepared_folder.write(out, spec, config.data.max_history, outputs)
    print(f"{out}: {summary(counts)}", file=sys.stderr, flush=True)
    return Prepared(out, data_dir, spec, counts)
