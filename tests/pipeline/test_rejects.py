"""Malformed rows that are allowed: left out, stored with the reason, and counted."""

import pathlib

import pytest
from tfx.orchestration import metadata, pipeline

from cmclrec_tf.config import Config, DataConfig
from cmclrec_tf.errors import InputError
from pipeline import configs
from pipeline.components import rejects
from pipeline.components.example_gen import COMPONENT, current_users
from pipeline.components.population import check_current_users, user_counts
from pipeline.data import data_components
from pipeline.datasets import load_spec
from pipeline.metadata.outputs import Outputs
from pipeline.runners import local
from tests.pipeline.toy_datasets import write_clusters

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

LOG = [
    ("u0,it1,noon", "column 'time' must be an integer"),
    ("u1,it2", "it must have 3 columns, and has 2"),
]
USER = "u2,young,cook,,12345", "column 'age' must be a number"


@pytest.fixture
def clusters(tmp_path):
    """A function that returns the spec of a dataset with three malformed rows.

    Its argument is the number of malformed rows that the spec allows.
    """
    spec_path = write_clusters(tmp_path / "raw")
    with open(tmp_path / "raw" / "interactions.csv", "a") as file:
        file.writelines(f"{row}\n" for row, _ in LOG)
    path = tmp_path / "raw" / "users.csv"
    header, *users = path.read_text().splitlines()
    path.write_text("\n".join([header, USER[0], *users]) + "\n")
    text = spec_path.read_text()

    def spec(most):
        spec_path.write_text(f"{text}max_rejects: {most}\n")
        return load_spec(spec_path)

    return spec


def _run(spec, tmp_path, components):
    folders = configs.Folders(tmp_path / "var", spec.name)
    folders.make()
    local.run(
        pipeline.Pipeline(
            pipeline_name=folders.pipeline_name,
            pipeline_root=str(folders.pipeline),
            components=components,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(
                str(folders.metadata)
            ),
        )
    )
    return Outputs(folders.metadata, folders.pipeline_name)


def _run_data_half(spec, tmp_path):
    config = Config(data=DataConfig(min_events=2))
    return _run(spec, tmp_path, data_components(spec, tmp_path / "raw", config, "", "").all)


def test_too_many_stop_the_run_and_are_stored(clusters, tmp_path):
    with pytest.raises(InputError) as error:
        _run_data_half(clusters(2), tmp_path)
    message = str(error.value)
    assert message.startswith("3 malformed rows: at most max_rejects=2 may be left out")
    (folder,) = (tmp_path / "var").rglob("rejects")
    lines = (tmp_path / "raw" / "interactions.csv").read_text().splitlines()
    fault = f"{LOG[0][1]}, for example row {len(lines) - 1} of {tmp_path}"
    assert f"(the most frequent fault: 1 rows of interactions: {fault}" in message
    assert str(folder) in message and "young" not in message
    rows = rejects.read(str(folder))
    expected = [("interactions", *row) for row in LOG] + [("users", *USER)]
    assert len(rows) == 3
    for reject, (table, row, rule) in zip(rows, expected, strict=True):
        assert (reject["table"], reject["row"]) == (table, row) and rule in reject["rule"]
        _, offset, _, path = reject["place"].split(" ", 3)
        assert pathlib.Path(path).read_bytes()[int(offset) :].startswith(row.encode())


def test_malformed_rows_are_the_error_where_nobody_is_left(clusters, tmp_path):
    path = tmp_path / "raw" / "interactions.csv"
    spec = clusters(2)
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{row.rpartition(',')[0]},noon" for row in rows)]))
    with pytest.raises(InputError) as error:
        _run_data_half(spec, tmp_path)
    message = str(error.value)
    assert message.startswith(f"{len(rows) + 1} malformed rows: at most max_rejects=2")
    assert f"rows of interactions: {LOG[0][1]}, for example row 2 of {path}" in message
    (folder,) = (tmp_path / "var").rglob("rejects/*")
    assert str(folder) in message and len(rejects.read(str(folder))) == len(rows) + 1


def test_as_many_as_allowed_pass_and_are_reported(clusters, tmp_path):
    outputs = _run_data_half(clusters(3), tmp_path)
    examples = outputs.artifact(COMPONENT, "examples")
    assert user_counts(examples)["rows_rejected"] == 3
    # This user has two rows, of which the first one is malformed.
    assert "users_repeated" not in user_counts(examples)
    assert len(rejects.read(rejects.rejects_folder(examples))) == 3
    report = pathlib.Path(outputs.artifact("DataGate", "report").uri, "REPORT.txt").read_text()
    assert "users: 1 rows: column 'age' must be a number" in report and "young" not in report


def test_without_malformed_rows_there_is_no_folder(clusters, tmp_path):
    assert rejects.read(str(tmp_path / "nowhere")) == []
    malformed = rejects.summarize(str(tmp_path / "nowhere"))
    malformed.check(0)
    assert malformed.report() == []


def test_too_many_stop_the_lists(clusters, tmp_path):
    spec = clusters(2)
    with pytest.raises(InputError, match="3 malformed rows: at most max_rejects=2"):
        _run(spec, tmp_path, [current_users(spec, tmp_path / "raw", DataConfig())])
    check_current_users({"users_everybody_cold": 1}, spec)
