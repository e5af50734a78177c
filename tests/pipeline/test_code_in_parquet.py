"""Code that a Parquet file carries never runs, and the error names the file and the column."""

import ast
import pathlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("cmclrec_tf", "serving", "pipeline", "experiments", "benchmarks")
# What reads the types of a Parquet, Feather or Arrow file.
READERS = {
    *("read_table", "read_pandas", "read_schema", "read_metadata", "read_parquet", "read_feather"),
    *("ParquetFile", "ParquetDataset", "ReadFromParquet", "ReadAllFromParquet", "open_stream"),
    *("ReadFromParquetBatched", "RecordBatchFileReader", "RecordBatchStreamReader", "open_file"),
}


def _hostile(marker):
    """Types that hold the code: of a column, and inside of a list and of a record."""
    # A pickle, as text, that calls os.mkdir(marker).
    code = f"cos\nmkdir\n(V{marker}\ntR."
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": code,
    }
    number = pa.field("x", pa.int64(), metadata=metadata)
    return {
        "column": (number.with_name("evil"), [1]),
        "list": (pa.field("evil", pa.list_(number)), [[1]]),
        "record": (pa.field("evil", pa.struct([number])), [{"x": 1}]),
    }


@pytest.fixture
def write(tmp_path):
    def write(shape):
        field, values = _hostile(tmp_path / "ran")[shape]
        # The values have the plain type, and the schema says that it is another one.
        plain = pa.table({"user": ["u"], "evil": values})
        schema = pa.schema([("user", pa.string()), field])
        path = tmp_path / shape / "users.parquet"
        path.parent.mkdir()
        pq.write_table(pa.Table.from_arrays(_typed(plain, schema), schema=schema), path)
        return path

    return write


def _typed(table, schema):
    """The columns of a table, with the names inside of their types that a schema has."""
    evil = table["evil"].combine_chunks()
    kind = schema.field("evil").type
    if pa.types.is_list(kind):
        evil = pa.Array.from_buffers(kind, len(evil), evil.buffers()[:2], children=[evil.values])
    elif pa.types.is_struct(kind):
        evil = pa.Array.from_buffers(kind, len(evil), [None], children=[evil.field(0)])
    return [table["user"], evil]


def _run(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


OPEN = """
import sys
from cmclrec_tf.errors import InputError
from experiments.run_folders import read_users
from pipeline.datasets import formats, parquet, table_specs

feature = table_specs.UserColumn("job", column="user")
table = table_specs.Users("users.parquet", "user", (feature,))
for folder in sys.argv[1:]:
    for read in (lambda: formats.inspect(table, folder), lambda: read_users(folder)):
        try:
            read()
        except InputError as error:
            print(error)
assert "apache_beam" not in sys.modules
"""


def test_nothing_runs_in_a_new_process(tmp_path, write):
    paths = [write(shape) for shape in ("column", "list", "record")]
    process = _run(OPEN, *(path.parent for path in paths))
    assert process.returncode == 0, process.stderr
    assert not (tmp_path / "ran").exists()
    expected = [f"column 'evil' of {path} with the type arrow.py_extension_type" for path in paths]
    messages = [line.split(": ")[0] for line in process.stdout.splitlines()]
    assert messages == [message for message in expected for _ in range(2)]


@pytest.mark.skipif(pa.__version__ >= "14", reason="pyarrow loads no code from 14.0.1 on")
@pytest.mark.parametrize("shape", ["column", "list", "record"])
def test_the_code_would_run(tmp_path, write, shape):
    _run("import sys, pyarrow.parquet as pq; pq.ParquetFile(sys.argv[1])", write(shape))
    assert (tmp_path / "ran").exists()


@pytest.mark.slow
def test_nothing_runs_in_beam(tmp_path, write):
    code = (
        "import sys, apache_beam as beam\n"
        "with beam.Pipeline(runner='FnApiRunner') as pipeline:\n"
        "    pipeline | beam.io.ReadFromParquet(sys.argv[1])"
    )
    process = _run(code, write("column"))
    assert process.returncode != 0 and "arrow.py_extension_type" in process.stderr
    assert not (tmp_path / "ran").exists()


def _names(path):
    """Yields the names of all attributes and imports of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.name for alias in node.names)


def test_one_module_opens_parquet():
    files = {path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    openers = {str(path.relative_to(ROOT)) for path in files if READERS & set(_names(path))}
    assert openers == {"pipeline/datasets/parquet.py"}
