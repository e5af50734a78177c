"""The gate with a baseline model, and the slices and intervals of an evaluation."""

import dataclasses

import numpy as np
import pytest

from cmclrec_tf.config import Config, EvaluateConfig, ServeConfig
from cmclrec_tf.schema import COLD, WARM
from tests.pipeline.fixed_lists import JOBS, random_answers, run_evaluator, save_model

pytestmark = pytest.mark.pipeline

K, CUT = 12, 10
USERS = 90
CONFIG = Config(
    evaluate=EvaluateConfig(
        k=CUT,
        ks=(3, CUT),
        slices=("job", "hobbies"),
        min_warm_ndcg=0.0,
        min_cold_ndcg=0.0,
        min_cold_coverage=0,
        max_drop=0.2,
    ),
    serve=ServeConfig(list_length=K),
)
REFUSING = dataclasses.replace(
    CONFIG, evaluate=dataclasses.replace(CONFIG.evaluate, floors="refuse")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="module")
def answers():
    return random_answers(USERS, K)


@pytest.fixture(scope="module")
def baseline(answers, folder):
    return save_model(answers, folder / "baseline")


def _changed(answers, better=None, worse=None):
    """Returns answers with the targets first for one segment and without them for another."""
    lists = answers.lists.copy()
    for row, cold in enumerate(answers.cold):
        segment = COLD if cold else WARM
        if segment == better:
            first = answers.targets[row][:K]
            rest = [item for item in lists[row] if item not in first]
            lists[row] = [*first, *rest][:K]
        elif segment == worse:
            lists[row] = np.where(np.isin(lists[row], answers.targets[row]), b"", lists[row])
    return dataclasses.replace(answers, lists=lists)


@pytest.mark.parametrize(("better", "worse"), [(WARM, COLD), (COLD, WARM)])
def test_a_model_worse_in_one_segment_alone_is_not_blessed(
    answers, baseline, folder, better, worse
):
    from pipeline.evaluation.results import read_failures, read_metrics

    changed = _changed(answers, better, worse)
    model = save_model(changed, folder / f"worse-{worse}")
    evaluation, blessed = run_evaluator(folder / worse, answers, CONFIG, model, baseline)
    assert not blessed
    rows = {WARM: ~answers.cold, COLD: answers.cold}
    (reason,) = read_failures(evaluation)
    before = answers.expected(rows[worse], CUT)[f"ndcg@{CUT}"]
    assert reason == (
        f"{worse} ndcg@{CUT} = 0, and the last blessed model reaches {before:.4g}: "
        "100.0% less is more than evaluate.max_drop=0.2"
    )
    # The metrics are the candidate's, not the baseline's.
    metrics = read_metrics(evaluation)
    for segment, users in rows.items():
        assert metrics[segment]["users"] == users.sum()
        for name, value in changed.expected(users, CUT).items():
            assert metrics[segment][name] == pytest.approx(value, abs=1e-6)


def test_an_equal_model_is_blessed(answers, baseline, folder):
    from pipeline.evaluation.results import read_baseline, read_failures, read_metrics

    evaluation, blessed = run_evaluator(folder / "equal", answers, CONFIG, baseline, baseline)
    assert blessed and read_failures(evaluation) == []
    assert read_baseline(evaluation) == read_metrics(evaluation)


def test_a_drop_from_zero_has_no_size(answers, folder):
    from pipeline.evaluation.results import read_failures

    model = save_model(_changed(answers, worse=COLD), folder / "nothing")
    evaluation, blessed = run_evaluator(folder / "of-nothing", answers, CONFIG, model, model)
    assert not blessed
    (reason,) = read_failures(evaluation)
    assert reason.endswith(
        "reaches 0: a drop from 0 has no size; set evaluate.max_drop to 1 for one run"
    )


def test_a_max_drop_of_1_compares_nothing(answers, baseline, folder):
    from pipeline.evaluation.floors import warnings
    from pipeline.evaluation.results import read_comparisons

    config = dataclasses.replace(CONFIG, evaluate=dataclasses.replace(CONFIG.evaluate, max_drop=1))
    model = save_model(_changed(answers, worse=COLD), folder / "worse")
    evaluation, blessed = run_evaluator(folder / "not-compared", answers, config, model, baseline)
    assert blessed
    # Popularity is not compared either, only named.
    assert sum("cold users are" in line for line in warnings(read_comparisons(evaluation))) == 2


@pytest.fixture(scope="module")
def alone(answers, baseline, folder):
    """Evaluation of the first model of a pipeline.

    Its random lists and popularity are equally good for random targets, up to chance.
    """
    evaluation, blessed = run_evaluator(folder / "alone", answers, REFUSING, baseline)
    assert blessed
    return evaluation


def test_the_first_model_has_no_baseline(alone):
    from pipeline.evaluation.results import read_baseline

    assert read_baseline(alone) == {}


SEGMENTS = (WARM, COLD, "overall")


def _users(answers, segment):
    users = {WARM: ~answers.cold, COLD: answers.cold, "overall": answers.cold | True}
    return users[segment]


def test_popularity_is_evaluated_on_the_same_users(answers, alone):
    from pipeline.evaluation.results import read_comparisons, read_floors

    floors = read_floors(alone)
    assert set(floors) == {"popularity", "popularity-last"}
    compared = {(row.floor, row.segment): row for row in read_comparisons(alone)}
    for floor, events in (("popularity", "all"), ("popularity-last", "last")):
        popular = answers.of_floor(events)
        for segment in SEGMENTS:
            users = _users(answers, segment)
            for k in CONFIG.evaluate.ks:
                for name, value in popular.expected(users, k).items():
                    if not name.endswith("_error"):
                        reached = floors[floor][segment][name]
                        assert reached == pytest.approx(value, abs=1e-6), (floor, segment, name)
            row = compared[floor, segment]
            name = f"ndcg@{CUT}"
            gain = (answers.by_user(CUT)[name] - popular.by_user(CUT)[name])[users]
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            assert row.difference == pytest.approx(gain.mean(), abs=1e-6)
            assert row.error == pytest.approx(error, abs=1e-6)
            assert row.model_value - row.floor_value == pytest.approx(gain.mean(), abs=1e-6)
            low, high = row.interval
            assert (low + high) / 2 == pytest.approx(gain.mean(), abs=1e-6)
            assert high - low == pytest.approx(2 * 1.959964 * error, abs=1e-6)


@pytest.mark.parametrize("worse", [pytest.param(WARM, marks=pytest.mark.slow), COLD])
def test_a_segment_below_popularity_is_refused(answers, folder, worse):
    """Without one right item for its users, a segment is below popularity by more than chance."""
    from pipeline.evaluation.floors import warnings
    from pipeline.evaluation.results import read_comparisons, read_failures

    other = COLD if worse == WARM else WARM
    model = save_model(_changed(answers, better=other, worse=worse), folder / f"below-{worse}")
    evaluation, blessed = run_evaluator(folder / f"refused-{worse}", answers, REFUSING, model)
    assert not blessed
    lines = list(warnings(read_comparisons(evaluation)))
    assert read_failures(evaluation) == [f"{line} (evaluate.floors=refuse)" for line in lines]
    assert list(warnings(read_comparisons(evaluation), refuses=True)) == []
    name = f"ndcg@{CUT}"
    for line, events in zip(lines, ("all", "last"), strict=True):
        users = _users(answers, worse)
        popular = answers.of_floor(events).by_user(CUT)[name][users]
        error = 1.959964 * popular.std(ddof=1) / np.sqrt(len(popular))
        mean = popular.mean()
        assert line == (
            f"{worse} users are served below popularity, {events} events: {name} is 0.0000 against "
            f"{mean:.4f}; the 95 % interval of the difference is {-mean - error:.4f} to "
            f"{-mean + error:.4f}"
        )


def test_what_may_be_chance_is_not_refused(alone):
    from pipeline.evaluation.floors import warnings
    from pipeline.evaluation.results import read_comparisons, read_failures

    assert read_failures(alone) == []
    rows = read_comparisons(alone)
    below = [row for row in rows if row.difference < 0]
    lines = list(warnings(rows, refuses=True))
    assert below and len(lines) == len(below) < len(rows)
    assert all(line.endswith("so this may be chance") for line in lines)


def test_a_slice_holds_the_users_of_a_value(answers, alone):
    from pipeline.evaluation.results import read_metrics, read_slices

    expected = {}
    segments = {"overall": np.full(USERS, True), WARM: ~answers.cold, COLD: answers.cold}
    for feature, values in (("job", answers.jobs), ("hobbies", answers.hobbies)):
        for value in {value for user in values for value in user}:
            has = np.array([value in user for user in values])
            for segment, users in segments.items():
                expected[feature, value.decode(), segment] = has & users
    slices = read_slices(alone)
    assert {(row.feature, row.value, row.segment) for row in slices} == set(expected)
    assert len(slices) == 3 * (len(JOBS) + 2)
    for row in slices:
        users = expected[row.feature, row.value, row.segment]
        assert row.metrics["users"] == users.sum()
        for name, value in answers.expected(users, CUT).items():
            assert row.metrics[name] == pytest.approx(value, abs=1e-6), (row, name)
    jobs = [row for row in slices if row.feature == "job"]
    assert [row.value for row in jobs[:3]] == ["cook"] * 3
    assert [row.segment for row in jobs[:3]] == [WARM, COLD, "overall"]
    assert set(read_metrics(alone)) == set(segments)


def test_an_interval_holds_the_mean_of_95_in_100_samples(answers, alone):
    from pipeline.evaluation.results import read_metrics
    from pipeline.evaluation.slices import interval

    name = f"ndcg@{CUT}"
    values = answers.by_user(CUT)[name][~answers.cold]
    low, high = interval(read_metrics(alone)[WARM], name)
    means = np.random.default_rng(0).choice(values, (20_000, len(values))).mean(1)
    assert np.quantile(means, [0.025, 0.975]) == pytest.approx([low, high], abs=0.01)
    assert low < values.mean() < high
