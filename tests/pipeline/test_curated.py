"""A curated schema: its rules, environments and comparators stop a run."""

import re

import pytest

from cmclrec_tf.config import Config, DataConfig
from cmclrec_tf.errors import InputError
from pipeline.datasets import check, load_spec
from tests.pipeline.test_data_gate import _split, _statistics
from tests.pipeline.toy_datasets import write_clusters

pytestmark = pytest.mark.pipeline

TIMES = ("history_time", "target_time")
FIELDS = ("user_id", "segment", "history", "target", *TIMES, "age", "job", "tags")


def _schema(*more, fields=FIELDS, **changes):
    """Returns the text of a schema for the records of `_split`; `changes` go into the features."""
    numbers = {**dict.fromkeys(TIMES, "INT"), "age": "FLOAT"}
    features = "".join(
        f'feature {{ name: "{name}" type: {numbers.get(name, "BYTES")} {changes.get(name, "")} }}\n'
        for name in fields
    )
    return "\n".join([features, *more])


def _blocked(text, accepted=None, **splits):
    from pipeline.components.anomalies import judge
    from pipeline.components.curated import anomalies

    clean = {"train": _split(), "val": _split(n=20), "test": _split("cold", 20)}
    statistics = {
        name: _statistics(columns).datasets[0] for name, columns in {**clean, **splits}.items()
    }
    before = accepted and _statistics(accepted).datasets[0]
    blocking, reports = judge(statistics, anomalies(text, statistics, before), curated=True)
    assert not reports
    return [str(finding) for finding in blocking]


def test_clean_data_pass():
    assert _blocked(_schema()) == []


def test_a_value_outside_of_the_schema_blocks():
    text = _schema('string_domain { name: "jobs" value: "cook" }', job='domain: "jobs"')
    (train, val) = _blocked(text)
    assert train.startswith("split 'train', feature 'job'") and "UNEXPECTED_STRING" in train
    assert val.startswith("split 'val'") and "nurse" not in train + val


def test_the_test_split_has_an_environment_of_its_own():
    required = "value_count { min: 1 }"
    environments = 'default_environment: "TRAIN" default_environment: "VAL"'
    assert _blocked(_schema(environments, history=required)) == []
    everywhere = f'{environments} default_environment: "TEST"'
    elsewhere = 'not_in_environment: "TEST"'
    (finding,) = _blocked(_schema(everywhere, history=required, history_time=elsewhere))
    assert finding.startswith("split 'test', feature 'history'")
    both = {"history": f"{required} {elsewhere}", "history_time": elsewhere}
    assert _blocked(_schema(everywhere, **both)) == []


def _cooks(n, cooks):
    return {**_split(n=n), "job": [["cook" if user < cooks else "nurse"] for user in range(n)]}


def test_drift_is_measured_against_the_accepted_data():
    text = _schema(job="drift_comparator { infinity_norm { threshold: 0.2 } }")
    assert _blocked(text, accepted=_cooks(40, 22)) == []
    (finding,) = _blocked(text, accepted=_cooks(40, 36))
    assert (
        finding
        == "split 'train', feature 'job': it must keep the schema, and has COMPARATOR_L_INFTY_HIGH"
    )
    assert _blocked(text) == []


def test_skew_is_measured_between_train_and_test():
    text = _schema(job="skew_comparator { infinity_norm { threshold: 0.2 } }")
    assert _blocked(text) == []
    (finding,) = _blocked(text, test={**_split("cold", 20), "job": [["cook"]] * 20})
    assert finding.startswith("split 'train', feature 'job'") and "L_INFTY" in finding


@pytest.fixture
def curated(tmp_path):
    """A function that prepares a dataset with the given text as its curated schema."""
    from pipeline.commands.prepare import prepare

    spec_path = write_clusters(tmp_path / "raw", n_users=120)
    plain = spec_path.read_text()

    def run(text):
        spec_path.write_text(plain + ("schema: curated.pbtxt\n" if text else ""))
        (tmp_path / "raw" / "curated.pbtxt").write_text(text)
        config = Config(data=DataConfig(max_history=5))
        return prepare(spec_path, tmp_path / "out", config, tmp_path / "raw", root=tmp_path / "var")

    return run


@pytest.mark.slow
def test_a_run_under_a_curated_schema(curated, tmp_path, capsys):
    fields = (*FIELDS[:-1], "hobbies", "zip")
    text = _schema(fields=fields, job="drift_comparator { infinity_norm { threshold: 0.15 } }")
    folder = curated(text).folder
    assert (folder / "schema.pbtxt").is_file()
    capsys.readouterr()
    curated(text)
    assert re.search(r"Transform \.\.\. [0-9.]+ s \(cached\)", capsys.readouterr().err)
    users = tmp_path / "raw" / "users.csv"
    users.write_text(users.read_text().replace(",nurse,", ",cook,"))
    for _ in range(2):  # Refused data are not what the next run compares with.
        with pytest.raises(InputError, match="'train', feature 'job': .* COMPARATOR_L_INFTY_HIGH"):
            curated(text)


def test_a_file_that_does_not_fit_the_records_is_refused(tmp_path):
    spec_path = write_clusters(tmp_path)
    with open(spec_path, "a") as file:
        file.write("schema: curated.pbtxt\n")
    with pytest.raises(InputError, match="curated.pbtxt: the dataset needs this file"):
        check(load_spec(spec_path), tmp_path)
    for text, message in (
        ("feature {", "must be a schema of TensorFlow Metadata"),
        ('feature { name: "job" }', r"'zip'\] are missing and \[\] too many"),
    ):
        (tmp_path / "curated.pbtxt").write_text(text)
        with pytest.raises(InputError, match=message):
            check(load_spec(spec_path), tmp_path)
