"""What a finished run offers: the lineage of its model, the model card, lists for all users."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from cmclrec_tf.errors import InputError

pytestmark = pytest.mark.pipeline

UP_TO_MODEL = ("ExampleGen", "StatisticsGen", "SchemaGen", "Transform", "Trainer")
UP_TO_PUSH = (*UP_TO_MODEL, "Evaluator", "ServingValidator", "Pusher")
OTHER_COMPONENTS = ("ExampleValidator", "DataGate", "Baseline", "ModelCard")


def test_a_pushed_model_is_followed_back_to_its_files(first_run, setting):
    from pipeline.commands.cli import pipeline

    where = ("--dataset", str(setting.spec), "--root", str(setting.root))
    result = CliRunner().invoke(pipeline, ["lineage", str(first_run.pushed_version), *where])
    assert result.exit_code == 0, result.output
    heads = [line.split()[0] for line in result.output.splitlines() if not line.startswith(" ")]
    assert heads[0] == "ExampleGen" and heads[-1] == "Pusher"
    assert set(heads) == set(UP_TO_PUSH)
    log = setting.data_dir / "interactions.csv"
    assert f"  file {log}: {log.stat().st_size} bytes, changed " in result.output
    assert "  model.width = 16\n" in result.output and "latent = 16" in result.output
    assert f"  -> model  {pathlib.Path(first_run.model).parent}" in result.output

    result = CliRunner().invoke(pipeline, ["status", *where])
    steps, summary = result.output.split("\n\n")
    assert summary == pathlib.Path(first_run.card, "summary.txt").read_text()
    lines = {line.split()[2]: line for line in steps.splitlines()}
    assert set(lines) == {*UP_TO_PUSH, *OTHER_COMPONENTS}
    assert str(first_run.model) in lines["Trainer"]
    result = CliRunner().invoke(pipeline, ["lineage", str(setting.data_dir), *where])
    with pytest.raises(InputError, match="must be the folder of a version that this pipeline"):
        raise result.exception


def test_the_model_card_describes_this_run(first_run):
    card = pathlib.Path(first_run.card)
    text = (card / "model_card.md").read_text()
    assert "**Blessed**" in text and first_run.users in text
    for segment in ("warm", "cold", "overall"):
        row = first_run.rows[segment]
        assert f"| {segment} | {row['users']:.0f} | {row['recall@5']:.4f} |" in text
        for floor in ("all", "last"):
            row = first_run.floors["popularity" if floor == "all" else "popularity-last"][segment]
            assert f"| popularity, {floor} events | {segment} |" in text
            assert f"| {row['recall@5']:.4f} | {row['recall@10']:.4f} |" in text
    assert "`model.width = 16`" in text
    summary = (card / "summary.txt").read_text()
    assert summary.startswith("Test users: ") and summary.endswith("Blessed\n")
    assert [line.split()[0] for line in summary.splitlines()].count("popularity,") == 2
    page = (card / "model_card.html").read_text()
    assert page.count("<table>") == 3 and 'src="data:image/png;base64,' in page
    assert (card / "segments.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def lists(first_run, setting, tmp_path_factory):
    """Rows of `cmclrec pipeline lists` by user id; a new user has joined since the run."""
    import pyarrow.parquet

    from pipeline.commands.cli import pipeline

    raw, out = tmp_path_factory.mktemp("now") / "raw", tmp_path_factory.mktemp("lists")
    shutil.copytree(setting.data_dir, raw)
    with open(raw / "users.csv", "a") as file:
        file.write("new_user,25,nurse,chess,12345\n")
    where = ("--dataset", str(setting.spec), "--data-dir", str(raw), "--root", str(setting.root))
    result = CliRunner().invoke(pipeline, ["lists", *where, "-k", "7", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "lists of 240 warm, 1 cold users" in result.output
    rows = pyarrow.parquet.read_table(out).to_pylist()
    return {row["user_id"]: row for row in rows}


def _example(columns, history):
    """Serializes a row of users.csv and the items of a history as the served graph reads them."""
    import tensorflow as tf

    def texts(values):
        encoded = [value.encode() for value in values if value]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    _, age, job, hobbies, zip_code = columns
    numbers = tf.train.FloatList(value=[float(age)] if age else [])
    fields = {
        "history": texts(history),
        "age": tf.train.Feature(float_list=numbers),
        "job": texts([job]),
        "hobbies": texts(hobbies.split("|")),
        "zip": texts([zip_code]),
    }
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()


def test_lists_of_warm_users_are_the_answers_to_their_features_and_histories(
    first_run, setting, lists
):
    from serving.c_api.session import SavedModelSession

    lines = [line.split(",") for line in (setting.data_dir / "interactions.csv").open()][1:]
    histories = {}
    for user, item, _ in sorted(lines, key=lambda line: int(line[2])):
        histories.setdefault(user, []).append(item)
    people = [line.rstrip("\n").split(",") for line in (setting.data_dir / "users.csv").open()][1:6]
    longest = setting.config.data.max_history
    examples = [_example(columns, histories[columns[0]][-longest:]) for columns in people]
    with SavedModelSession(first_run.pushed_version) as session:
        answer = session.run("serving_default", {"examples": np.array(examples, object)})
    answers = zip(people, answer["item_ids"], answer["scores"], strict=True)
    for (user, *_), items, scores in answers:
        row = lists[user.encode()]
        assert not row["is_cold"] and row["item_ids"] == list(items[:7])
        assert row["scores"] == pytest.approx(scores[:7], abs=1e-4)


def test_the_list_of_a_new_user_is_the_answer_of_cold(first_run, lists):
    from serving.c_api.session import SavedModelSession

    profile = {"age": 25.0, "job": b"nurse", "zip": b"12345"}
    inputs = {name: np.array([value], object) for name, value in profile.items()}
    inputs |= {"age": np.array([25.0], np.float32), "hobbies": np.array([[b"chess"]], object)}
    with SavedModelSession(first_run.pushed_version) as session:
        answer = session.run("cold", {**inputs, "exclude": np.empty((1, 0), object)})
    row = lists[b"new_user"]
    assert row["is_cold"] and row["item_ids"] == list(answer["item_ids"][0, :7])
    assert row["scores"] == pytest.approx(answer["scores"][0, :7], abs=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-k", "21"], "the model answers with 1 to 20 items"),
        (["-k", "0"], "the model answers with 1 to 20 items"),
        (["--pushed-version", "."], "it must be the folder of a version that this pipeline pushed"),
    ],
)
def test_lists_that_cannot_be_made_are_refused(first_run, setting, tmp_path, more, message):
    from pipeline.commands.cli import pipeline

    where = ("--dataset", str(setting.spec), "--data-dir", str(setting.data_dir))
    more = [*where, "--root", str(setting.root), "--out", str(tmp_path), *more]
    result = CliRunner().invoke(pipeline, ["lists", *more])
    with pytest.raises(InputError, match=message):
        raise result.exception


@pytest.mark.slow
def test_a_model_of_other_features_makes_no_lists(first_run, setting, tmp_path):
    from pipeline.commands import bulk_lists

    users = first_run.spec.users
    spec = dataclasses.replace(
        first_run.spec, users=dataclasses.replace(users, features=users.features[1:])
    )
    with pytest.raises(InputError, match="other user features than clusters has now"):
        bulk_lists.make_lists(spec, setting.data_dir, first_run.folders, None, 5, tmp_path)
