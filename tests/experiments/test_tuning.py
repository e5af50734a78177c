"""Tuning: equally many trials for every row, on validation users, run once."""

import json

import pytest

from cmclrec_tf.config import Config
from experiments import tuning
from experiments.table_rows import parse_rows
from tests.conftest import TINY, one_quick

TRIALS = 3


@pytest.fixture
def scored(monkeypatch):
    """Trials that cost nothing: [(values of the trial, score)]; dropout .4 validates best."""
    seen = []

    def train(row, dataset, log_dir=None, checkpoint_dir=None):
        seen.append(row)
        return row

    def validate(row, model, dataset):
        assert model is seen[-1] or model == seen[-1]
        return 0.5 - abs(row.setting("model.dropout") - 0.4)

    monkeypatch.setattr("experiments.table_rows.Row.train", train)
    monkeypatch.setattr("experiments.table_rows.Row.validate", validate)
    return seen


def _row(name, **more):
    (row,) = parse_rows([name], "toy", Config.from_dict({**TINY, **more}))
    return row


def test_the_best_trial_wins(scored, dataset, tmp_path):
    row = _row("sasrec", seed=4)
    best_row = tuning.tune(row, dataset, tmp_path, 9)
    tried = [(r.setting("finetune.learning_rate"), r.setting("model.dropout")) for r in scored]
    # The untuned settings come first, and nothing is tried twice.
    assert tried[0] == (0.01, 0.0) and len(set(tried)) == len(tried) == 9
    assert all(r.config.seed == 0 and r.config.data.salt == "0" for r in scored)
    best = max(tried, key=lambda values: -abs(values[1] - 0.4))
    assert best_row.setting("model.dropout") == best[1]
    assert best_row.name == "sasrec" and best_row.config.seed == 4
    assert best_row.tuning["trials"] == 9
    assert best_row.tuning["val_ndcg"] == pytest.approx(0.5 - abs(best[1] - 0.4))
    assert best_row.tuning["val_ndcg_before"] == pytest.approx(0.1)


@pytest.mark.slow
def test_a_finished_search_is_not_repeated(scored, dataset, tmp_path):
    first = tuning.tune(_row("sasrec"), dataset, tmp_path, TRIALS)
    assert len(scored) == TRIALS
    assert tuning.tune(_row("sasrec"), dataset, tmp_path, TRIALS) == first
    assert len(scored) == TRIALS
    # Another config is another search.
    tuning.tune(_row("sasrec", evaluate={"k": 10}), dataset, tmp_path, TRIALS)
    assert len(scored) == 2 * TRIALS


@pytest.mark.slow
def test_a_killed_search_resumes(scored, dataset, tmp_path, monkeypatch):
    def killed(row, dataset, log_dir=None, checkpoint_dir=None):
        scored.append(row)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return row

    with monkeypatch.context() as patch:
        patch.setattr("experiments.table_rows.Row.train", killed)
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(_row("sasrec"), dataset, tmp_path / "killed", TRIALS)
    again = tuning.tune(_row("sasrec"), dataset, tmp_path / "killed", TRIALS)
    assert len(scored) == TRIALS + 1  # the second one twice
    tried = [row.config for row in scored]
    assert tried[1] == tried[2] and len({repr(config) for config in tried}) == TRIALS
    assert again.tuning["trials"] == TRIALS


def test_a_row_that_trains_nothing_is_unchanged(scored, dataset, tmp_path):
    row = _row("popularity")
    assert tuning.tune(row, dataset, tmp_path, TRIALS) is row
    assert not scored and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", one_quick(["features-mlp-last", "sasrec", "heater"], "features-mlp-last")
)
def test_the_score_is_that_of_early_stopping(dataset, tmp_path, eager, name):
    """With real trainings, a trial reports the validation NDCG of the best epoch."""
    short = {**TINY, "baseline": {"hidden": 8, "sweeps": 1}}
    short["finetune"] = {**TINY["finetune"], "epochs": 2}
    row = _row(name, **short)
    if row.is_simple:
        row = row.changed({"epochs": 2})
    best_row = tuning.tune(row, dataset, tmp_path, 2)
    (path,) = tmp_path.rglob(tuning.RESULT)
    assert json.loads(path.read_text()) == best_row.tuning
    assert not list(tmp_path.rglob("checkpoints"))
    run_row = best_row.for_run(0)
    model = run_row.train(dataset)
    assert run_row.validate(model, dataset) == pytest.approx(best_row.tuning["val_ndcg"], abs=1e-5)
