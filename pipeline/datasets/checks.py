"""Whether a dataset's files are there and have the columns that its spec names."""

from pipeline.datasets.formats import inspect
from pipeline.files import listed, state


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
        if table is not None:
            inspect(table, folder)


def states(spec, folder):
    """`{file: state}` of the files that user records are made of, see `pipeline.files.state`.

    Args, errors: as of `check`.
    """
    tables = (spec.interactions, spec.users)
    return {path: state(path) for table in tables for path in listed(folder, table.file)}
