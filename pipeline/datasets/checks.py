"""Whether a dataset's files are there and have the columns that its spec names."""

import pathlib

from cmclrec_tf.errors import InputError
from pipeline.datasets.formats import column_names, columns_of, opened, positions


def check(spec, folder):
    """Looks at the columns of each file, so that a wrong file is known before anything runs.

    Args:
        spec: the `DatasetSpec`.
        folder: of the raw files.

    Raises:
        InputError: a missing or empty file, one of another format than its name says, or a missing
            column.
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
        with opened(path) as file:
            found = column_names(file, table.delimiter, path)
        positions(found, columns_of(table), path)
