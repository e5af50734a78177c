"""The Evaluator's metrics equal the library's, and a missed bound withholds the blessing."""

import numpy as np
import pytest

from cmclrec_tf.config import Config, EvaluateConfig, ServeConfig
from cmclrec_tf.errors import InputError
from tests.pipeline.fixed_lists import random_answers, run_evaluator, save_model

pytestmark = pytest.mark.pipeline

K, KS = 12, (3, 10)
USERS = 90


@pytest.fixture(scope="module")
def answers():
    return random_answers(USERS, K)


@pytest.fixture(scope="module")
def evaluate(answers, tmp_path_factory):
    """Runs TFX's Evaluator on the answers; returns its evaluation folder and its verdict."""
    root = tmp_path_factory.mktemp("evaluator")
    model = save_model(answers, root / "model")

    def run(name, config, keep=lambda cold: True):
        return run_evaluator(root / name, answers, config, model, keep=keep)

    return run


def _config(**bounds):
    bounds = {"min_warm_ndcg": 0.0, "min_cold_ndcg": 0.0, "min_cold_coverage": 0, **bounds}
    return Config(evaluate=EvaluateConfig(k=10, ks=KS, **bounds), serve=ServeConfig(list_length=K))


@pytest.fixture(scope="module")
def blessed(evaluate):
    return evaluate("blessed", _config())


def test_metrics_equal_the_librarys(answers, blessed):
    from pipeline.evaluation.results import read_failures, read_metrics

    evaluation, verdict = blessed
    assert verdict
    assert read_failures(evaluation) == []
    rows = read_metrics(evaluation)
    assert set(rows) == {"warm", "cold", "overall"}
    segments = {
        "warm": np.flatnonzero(~answers.cold),
        "cold": np.flatnonzero(answers.cold),
        "overall": np.arange(USERS),
    }
    for segment, users in segments.items():
        assert rows[segment]["users"] == len(users)
        for k in KS:
            for name, value in answers.expected(users, k).items():
                assert rows[segment][name] == pytest.approx(value, abs=1e-6), (segment, name)


def test_overall_is_between_the_segments(blessed):
    from pipeline.evaluation.results import read_metrics

    rows = read_metrics(blessed[0])
    for k in KS:
        for metric in (f"recall@{k}", f"ndcg@{k}"):
            low, high = sorted((rows["warm"][metric], rows["cold"][metric]))
            assert low < rows["overall"][metric] < high


def test_a_missed_bound_of_any_segment_withholds_the_blessing(evaluate):
    from pipeline.evaluation.results import read_failures

    evaluation, verdict = evaluate(
        "bounds", _config(min_warm_ndcg=0.99, min_cold_ndcg=0.98, min_cold_coverage=1000)
    )
    assert not verdict
    failures = sorted(read_failures(evaluation))
    assert [line.split(" = ")[0] for line in failures] == [
        "cold coverage@10",
        "cold ndcg@10",
        "warm ndcg@10",
    ]
    assert "bound 1000" in failures[0]
    assert "bound 0.98" in failures[1]
    assert "bound 0.99" in failures[2]


def test_no_cold_users_withhold_the_blessing(evaluate):
    from pipeline.evaluation.results import read_failures

    evaluation, verdict = evaluate("warm-only", _config(), keep=lambda cold: not cold)
    assert not verdict
    assert any("cold" in line for line in read_failures(evaluation))


def test_a_cut_beyond_the_list_is_refused():
    from pipeline.evaluation.gate import eval_config

    with pytest.raises(InputError, match="list_length"):
        eval_config(Config(serve=ServeConfig(list_length=49)))


def test_a_missing_evaluation_is_named_in_one_line(tmp_path):
    from pipeline.evaluation.results import read_metrics

    with pytest.raises(InputError, match="Run the pipeline again"):
        read_metrics(str(tmp_path / "absent"))
    with pytest.raises(InputError, match="Run the pipeline again"):
        read_metrics(str(tmp_path))
