"""Whether a dataset's files are there and have the columns that its spec names."""

import pathlib

from cmclrec_tf.errors import InputError
from pipeline.datasets.delimited import columns_of, positions


def check(spec, folder):
    """Looks at the header of each file, so that a wrong file is known before anything runs.

    Args:
        spec: the `DatasetSpec`.
        folder: of the raw files.

    Raises:
        InputError: a missing or empty file, or a missing column.
    """
    for table in (spec.interactions, spec.users, spec.items):
        if table is None:
            continue
        path = pathlib.Path(folder) / table.file
        if not path.is_file():
            raise InputError(
                path,
                f"dataset {spec.name} needs this file",
                "Give the folder that holds it by --data-dir.",
            )
        with open(path, "rb") as file:
            header = file.readline()
        if not header.strip():
            raise InputError(path, "its first line must name the columns", "Add a header line.")
        positions(header, table.delimiter, columns_of(table), path)
