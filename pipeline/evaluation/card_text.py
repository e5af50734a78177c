"""Writes the text of a model card: purpose, data, quality by segment and limits of a model.

The parts follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

import base64
import dataclasses
import html
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cmclrec_tf.config import Config
from cmclrec_tf.schema import COLD, WARM
from pipeline.evaluation.floors import (
    REFUSE,
    TITLES,
    Comparison,
    repeats,
    segment_table,
    warnings,
)
from pipeline.evaluation.slices import SEGMENTS, Slice, largest_slices, mean_with_interval
from pipeline.metadata.settings import changed_settings

PLOT = "segments.png"

# With fewer users, one of them moves a mean by more than half a per cent.
FEW_USERS = 200

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}"
    "img{max-width:100%}"
)


@dataclasses.dataclass(frozen=True)
class Field:
    """Statistics of a user feature in the train split.

    Attributes:
        name: name of the feature.
        kind: kind of the feature.
        known: share of the train users who have a value.
        values: number of different values; None for a number.
    """

    name: str
    kind: str
    known: float
    values: int | None


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that a card shows.

    Attributes:
        name: the dataset's name.
        origin: publisher of the raw files, from the dataset's spec.
        terms: terms of use of the raw files, from the dataset's spec.
        population: one line on how many users were kept, and how many were dropped and why.
        fields: the user features.
        items: number of items that the model can recommend.
        config: the config of the run, with the Tuner's changes.
        rows: `{segment: {metric: value}}` of the Evaluator.
        floors: metrics of popularity, `{floor: {segment: {metric: value}}}`.
        comparisons: the model next to the floors, see `floors.comparisons`.
        slices: metrics by user feature, see `results.read_slices`.
        failures: why the model is not blessed, one line per reason; empty if it is.
        versions: `{library: version}`.
        date: time of writing, as text.
    """

    name: str
    origin: str
    terms: str
    population: str
    fields: tuple[Field, ...]
    items: int
    config: Config
    rows: Mapping[str, Mapping[str, float]]
    floors: Mapping[str, Mapping[str, Mapping[str, float]]]
    comparisons: tuple[Comparison, ...]
    slices: tuple[Slice, ...]
    failures: tuple[str, ...]
    versions: Mapping[str, str]
    date: str


def markdown(facts: Facts) -> str:
    """Returns the card as Markdown."""
    parts = [
        f"# Model card: CMCLRec on {facts.name}",
        f"Written {facts.date}. {_verdict(facts)}",
        "## What it is",
        _description(facts),
        "## Data",
        _data(facts),
        "## Quality by segment",
        _quality(facts),
        f"![NDCG by segment]({PLOT})",
        *_quality_by_feature(facts),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(facts)),
        "## Training",
        _training(facts),
    ]
    return "\n\n".join(parts) + "\n"


def summary(facts: Facts) -> str:
    """Returns the metrics of the model and of popularity by segment, and the verdict, as text."""
    lines = [segment_table(facts.rows, facts.floors, facts.config.evaluate.k)]
    lines += [f"Warning: {line}" for line in _warnings(facts)]
    lines += filter(None, [repeats(facts.rows, facts.config.evaluate.hides_history)])
    lines += [f"Not blessed: {line}" for line in facts.failures] or ["Blessed"]
    return "\n".join(lines) + "\n"


def page(text: str, plot: bytes) -> str:
    """Returns the card as one HTML page.

    Args:
        text: the card as Markdown, from `markdown`.
        plot: content of the PNG file, which becomes part of the page.
    """
    import markdown as converter

    body = converter.markdown(text, extensions=["tables"])
    image = f"data:image/png;base64,{base64.b64encode(plot).decode()}"
    title = html.escape(text.splitlines()[0].removeprefix("# "))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body.replace(PLOT, image)}\n</body></html>\n"
    )


def draw(facts: Facts, path: str | pathlib.Path) -> None:
    """Plots NDCG@K over K for every segment, as a PNG file.

    Args:
        facts: the facts of the card.
        path: path of the file.
    """
    from pipeline.evaluation.plots import figure

    plot = figure(5, 3)
    axes = plot.subplots()
    ks = facts.config.evaluate.ks
    for segment in SEGMENTS:
        if segment in facts.rows:
            axes.plot(ks, [facts.rows[segment][f"ndcg@{k}"] for k in ks], "o-", label=segment)
    axes.set(xlabel="K", ylabel="NDCG@K", ylim=(0, None), xticks=ks)
    axes.legend()
    plot.savefig(path, dpi=120)


def plain(text: object) -> str:
    """Returns the text with all markup characters escaped, for Markdown and HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>&])", lambda m: f"&#{ord(m[1])};", str(text))


def _verdict(facts: Facts) -> str:
    if not facts.failures:
        return "**Blessed**: every bound of the gate is met."
    return "\n".join(
        ["**Not blessed**:", "", *(f"- {line}" for line in map(plain, facts.failures))]
    )


def _description(facts: Facts) -> str:
    model = facts.config.model
    return (
        f"A sequential recommender ({model.backbone}, width {model.width}) for users with a "
        "history and for users without one. For a user without a history, a mapper simulates one "
        "from the user features, and the same recommender reads it (CMCLRec, "
        f"doi:10.1145/3626772.3657839). The model returns the {facts.config.serve.list_length} "
        f"items that a user is most likely to take next, out of {facts.items}."
    )


def _data(facts: Facts) -> str:
    sources = (("Origin", facts.origin), ("Terms", facts.terms))
    lines = [f"{label}: {plain(text)}" for label, text in sources if text]
    rows = [
        (plain(f.name), f.kind, f"{f.known:.1%}", "" if f.values is None else str(f.values))
        for f in facts.fields
    ]
    head = ("user feature", "kind", "train users with a value", "different values")
    return "\n\n".join([*lines, f"Users: {facts.population}.", _table(head, rows)])


def _quality(facts: Facts) -> str:
    evaluate = facts.config.evaluate
    names = [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in evaluate.ks]
    names.append(f"coverage@{evaluate.k}")
    segments = {name: facts.rows[name] for name in SEGMENTS if name in facts.rows}
    recommenders = {"CMCLRec": facts.rows}
    recommenders |= {TITLES[floor]: rows for floor, rows in facts.floors.items()}
    rows = [
        (title, segment, f"{metrics['users']:.0f}", *(_number(row.get(name)) for name in names))
        for segment, metrics in segments.items()
        for title, row in ((title, rows.get(segment, {})) for title, rows in recommenders.items())
    ]
    intervals = [
        (segment, *_with_intervals(metrics, evaluate.k)) for segment, metrics in segments.items()
    ]
    return "\n\n".join(
        [
            f"The {facts.config.data.held_out} took no part in training. The model ranks all items "
            "of the train split; the relevant items are the targets of the test records. Coverage "
            "is the number of different items in the lists of a segment. Popularity gives all "
            "users the most popular items of the train split, by all events or by the last one of "
            "each user, and leaves out the same items of the history as the model.",
            _table(("recommender", "segment", "users", *names), rows),
            *_against_floors(facts),
            "With 95 % confidence intervals, for other users and the same model:",
            _table(("segment", "users", *_means(evaluate.k)), intervals),
        ]
    )


def _against_floors(facts: Facts) -> Iterator[str]:
    if not facts.comparisons:
        return
    if lines := list(_warnings(facts)):
        yield "\n".join(f"- **Warning**: {line}." for line in map(plain, lines))
    elif not any(comparison.is_below for comparison in facts.comparisons):
        yield "No segment is served below popularity."


def _warnings(facts: Facts) -> Iterator[str]:
    return warnings(facts.comparisons, refuses=facts.config.evaluate.floors == REFUSE)


def _quality_by_feature(facts: Facts) -> Iterator[str]:
    slices, others = largest_slices(facts.slices)
    if not slices:
        return
    yield "## Quality by user feature"
    yield "A user counts for each value of a feature. A user without a value does not count."
    k = facts.config.evaluate.k
    yield _table(
        ("user feature", "value", "segment", "users", *_means(k)),
        [
            (plain(s.feature), plain(s.value), s.segment, *_with_intervals(s.metrics, k))
            for s in slices
        ],
    )
    for feature, number in others.items():
        yield f"{plain(feature)} has {number} more values, each of fewer users."


def _means(k: int) -> tuple[str, str]:
    return f"recall@{k}", f"ndcg@{k}"


def _with_intervals(metrics: Mapping[str, float], k: int) -> tuple[str, ...]:
    return f"{metrics['users']:.0f}", *(mean_with_interval(metrics, name) for name in _means(k))


def _limits(facts: Facts) -> Iterator[str]:
    yield "The metrics are offline: they count what users took, not how they react to the lists."
    yield "Items that are not in the train split are never recommended."
    if line := repeats(facts.rows, facts.config.evaluate.hides_history):
        yield f"{plain(line)}."
    for segment in (WARM, COLD):
        metrics = facts.rows.get(segment)
        if metrics is None:
            yield f"No {segment} user was in the test split, so this segment was not evaluated."
        elif metrics["users"] < FEW_USERS:
            yield f"{segment}: {metrics['users']:.0f} users are few, see the intervals."
    for field in facts.fields:
        if field.known < 0.5:
            yield f"Only {field.known:.0%} of the train users have a value of {plain(field.name)}."
    if not facts.slices:
        yield "Groups of users were not compared, so the card does not cover fairness."


def _training(facts: Facts) -> str:
    changes = [f"`{path} = {value}`" for path, value in changed_settings(facts.config).items()]
    settings = "The default settings"
    if changes:
        settings += " except " + ", ".join(changes)
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return f"{settings}. Seed {facts.config.seed}. {versions}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f}" if value > 1 else f"{value:.4f}"
