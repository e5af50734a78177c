"""The text of a model card, on synthetic facts."""

import dataclasses
import json
import subprocess
import sys
import types

import pytest

from cmclrec_tf.config import Config
from pipeline.evaluation import card_text
from pipeline.evaluation.floors import Comparison
from pipeline.evaluation.slices import Slice

ROW = {
    "users": 400.0,
    **{f"{name}@{k}": 0.1 for name in ("recall", "ndcg", "coverage") for k in (5, 10, 20, 50)},
    **{f"{name}@20_error": 0.02 for name in ("recall", "ndcg")},
    "recall@20": 0.2,
    "coverage@20": 321.0,
}
FACTS = card_text.Facts(
    name="toy",
    origin="written by hand",
    terms="",
    population="9 train (warm) users",
    fields=(
        card_text.Field("job", "categorical", 0.25, 12),
        card_text.Field("age", "numeric", 1.0, None),
    ),
    items=50,
    config=Config.from_dict({"model": {"width": 8}, "seed": 3}),
    rows={"warm": ROW, "cold": {**ROW, "users": 40.0}},
    floors={},
    comparisons=(),
    slices=(),
    failures=(),
    versions={"keras": "3"},
    date="2000-01-01 00:00 UTC",
)


def test_it_holds_data_quality_limits_and_training():
    text = card_text.markdown(FACTS)
    for part in (
        "**Blessed**",
        "out of 50.",
        "| job | categorical | 25.0% | 12 |",
        "| age | numeric | 100.0% |  |",
        "| CMCLRec | warm | 400 | 0.1000 | 0.1000 | 0.2000 |",
        "| 321 |",
        "Only 25% of the train users have a value of job.",
        "`model.width = 8`, `seed = 3`",
        "Seed 3. keras 3.",
    ):
        assert part in text, part
    assert "Terms" not in text and "a value of age" not in text


POPULAR = {"recall@20": 0.3, "ndcg@20": 0.15, "coverage@20": 20.0}
BELOW = Comparison("popularity", "cold", "ndcg@20", 0.1, 0.15, -0.05, 0.01)
UNSURE = Comparison("popularity", "warm", "ndcg@20", 0.14, 0.15, -0.01, 0.01)
BETTER = Comparison("popularity-last", "warm", "ndcg@20", 0.14, 0.1, 0.04, 0.01)


@pytest.mark.parametrize(
    ("compared", "setting", "lines"),
    [
        ((BETTER,), "warn", ["No segment is served below popularity."]),
        ((BETTER, UNSURE, BELOW), "warn", [UNSURE.sentence(), BELOW.sentence()]),
        # What is refused is among the reasons that the model is not blessed.
        ((BETTER, UNSURE, BELOW), "refuse", [UNSURE.sentence()]),
        ((BELOW,), "refuse", []),
    ],
)
def test_popularity_stands_next_to_the_model(compared, setting, lines):
    floors = {"popularity": {"warm": POPULAR, "cold": POPULAR}}
    config = FACTS.config.changed({"evaluate.floors": setting})
    facts = dataclasses.replace(FACTS, floors=floors, comparisons=compared, config=config)
    text, summary = card_text.markdown(facts), card_text.summary(facts)
    for segment, users in (("warm", 400), ("cold", 40)):
        assert f"| popularity, all events | {segment} | {users} | - | - | 0.3000 | - |" in text
    for row in (UNSURE, BELOW):
        shown = f"- **Warning**: {card_text.plain(row.sentence())}.\n"
        assert (shown in text) == (row.sentence() in lines)
        assert (f"Warning: {row.sentence()}\n" in summary) == (row.sentence() in lines)
    assert ("No segment is served below popularity." in text) == (
        setting == "warn" and len(compared) == 1
    )
    (line,) = (line for line in summary.splitlines() if line.startswith("popularity, all events"))
    assert line.split()[3:] == ["0.3000", "0.1500", "20"] * 2 + ["-"] * 3
    assert summary.endswith("\nBlessed\n")


@pytest.mark.parametrize(
    ("seen", "effect"),
    [("mask", "so they count as misses"), ("keep", "which the lists may hold")],
)
def test_targets_in_the_history_are_counted(seen, effect):
    config = FACTS.config.changed({"evaluate.seen_items": seen})
    rows = {"warm": {**ROW, "repeats": 30.0}}
    facts = dataclasses.replace(FACTS, rows=rows, config=config)
    text = card_text.markdown(facts)
    line = (
        f"30 of 400 warm users have their target in their history, {effect} "
        f"(evaluate.seen_items={seen})."
    )
    assert f"- {card_text.plain(line)}" in text
    assert f"\n{line.removesuffix('.')}\n" in card_text.summary(facts)
    assert "in their history" not in card_text.markdown(FACTS)


def test_what_training_does_not_see_depends_on_the_split():
    for split, held_out in (("users", "users of the test split"), ("time", "events after T")):
        facts = dataclasses.replace(FACTS, config=FACTS.config.changed({"data.split": split}))
        assert f"The {held_out} took no part in training." in card_text.markdown(facts)


def test_means_come_with_intervals():
    text = card_text.markdown(FACTS)
    # .2 and .1, 1.96 * .02 either way
    means = "0.2000 (0.1608 to 0.2392) | 0.1000 (0.0608 to 0.1392) |"
    assert f"| warm | 400 | {means}" in text and f"| cold | 40 | {means}" in text
    assert "- cold: 40 users are few" in text and "warm: 400" not in text


def test_slices_are_shown_largest_first_and_not_all_of_them():
    text = card_text.markdown(FACTS)
    assert "## Quality by user feature" not in text and "fairness" in text
    slices = tuple(Slice("job", f"v{i}|", "cold", {**ROW, "users": 90.0 - i}) for i in range(12))
    text = card_text.markdown(dataclasses.replace(FACTS, slices=slices))
    assert "| job | v0&#124; | cold | 90 | 0.2000 (0.1608 to 0.2392) |" in text
    assert "v9" in text and "v10" not in text
    assert "job has 2 more values" in text and "fairness" not in text


def test_a_model_that_is_not_blessed_says_why():
    facts = dataclasses.replace(FACTS, failures=("cold ndcg@20 = 0.1 is below its bound 0.2",))
    text = card_text.markdown(facts)
    assert "**Not blessed**" in text and "**Blessed**" not in text
    assert "- cold ndcg@20 = 0.1 is below its bound 0.2" in text


def test_a_segment_without_users_is_named():
    text = card_text.markdown(dataclasses.replace(FACTS, rows={"warm": ROW}))
    assert "No cold user was in the test split" in text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a|b", "*a*", "![x](http://x)"])
def test_names_are_no_markup(name, tmp_path):
    facts = dataclasses.replace(FACTS, origin=name, fields=(card_text.Field(name, "multi", 1, 2),))
    card_text.draw(facts, tmp_path / "plot.png")
    page = card_text.page(card_text.markdown(facts), (tmp_path / "plot.png").read_bytes())
    shown = page.replace("&#60;", "<")
    assert "<script" not in page and "<em>a" not in page and 'http://x"' not in page
    assert page.count("<td>") == 4 + 2 * 12 + 2 * 4 and page.count("<img") == 1, shown


ELSEWHERE = """
import json, sys, types
from cmclrec_tf.config.sections import BACKBONES
from pipeline.components.model_card import _config
before = set(BACKBONES)
values, folder = sys.argv[1:]
config = _config(values, types.SimpleNamespace(uri=folder))
print(config.model.backbone, config.finetune.ema, BACKBONES == before)
"""


@pytest.mark.pipeline
@pytest.mark.slow  # a process that loads TFX
def test_the_component_reads_a_config_whose_backbone_is_not_imported(tmp_path):
    values = {"model": {"backbone": "elsewhere"}}
    best = {"values": {"finetune.ema": 0.5}}
    (tmp_path / "best_hyperparameters.txt").write_text(json.dumps(best))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps(values), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "elsewhere 0.5 True\n", done.stderr[-2000:]


@pytest.mark.pipeline
def test_a_search_imports_the_module_of_run_fn(tmp_path, monkeypatch):
    from pipeline import tuner

    (tmp_path / "registers.py").write_text("raise LookupError('the module is imported')")
    monkeypatch.syspath_prepend(tmp_path)
    settings = {tuner.TRIALS: 1, tuner.MODULE: "registers", "config": {}}
    with pytest.raises(LookupError, match="the module is imported"):
        tuner.tuner_fn(types.SimpleNamespace(custom_config=settings, hyperparameters=None))
