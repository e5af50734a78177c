"""A model card: what a model was made of, what it reached in each segment, and its limits.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

import base64
import dataclasses
import html
import math
import re

from cmclrec_tf.config import Config
from cmclrec_tf.schema import COLD, WARM
from pipeline.evaluation.slices import SEGMENTS, Slice, shown, told
from pipeline.metadata.settings import changed_settings

PLOT = "segments.png"
# Below it one user more or less moves a recall by more than half a per cent.
FEW_USERS = 200


@dataclasses.dataclass(frozen=True)
class Field:
    """What the train split holds of a user feature.

    Attributes:
        name, kind: of the feature.
        known: share of the train users with a value.
        values: number of different values; None for a number.
    """

    name: str
    kind: str
    known: float
    values: int | None


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything that a card tells.

    Attributes:
        name: of the dataset.
        origin, terms: of its spec.
        population: one line on who was kept and who was dropped.
        fields: the user features.
        items: number of items that can be recommended.
        config: of the run.
        rows: `{segment: {metric: value}}` of the Evaluator.
        slices: `Slice`s of the Evaluator, as `evaluated.read_slices` gives them.
        failures: why the model is not blessed, a line each; empty when it is.
        versions: `{library: version}`.
        made: when, as text.
    """

    name: str
    origin: str
    terms: str
    population: str
    fields: tuple[Field, ...]
    items: int
    config: Config
    rows: dict
    slices: tuple[Slice, ...]
    failures: tuple[str, ...]
    versions: dict
    made: str


def markdown(facts):
    """The card as Markdown."""
    parts = [
        f"# Model card: CMCLRec on {facts.name}",
        f"Made {facts.made}. {_verdict(facts)}",
        "## What it is",
        _description(facts),
        "## Data",
        _data(facts),
        "## Quality by segment",
        _quality(facts),
        f"![NDCG by segment]({PLOT})",
        *_sliced(facts),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(facts)),
        "## How it was made",
        _making(facts),
    ]
    return "\n\n".join(parts) + "\n"


def page(text, plot) -> str:
    """The card as one HTML file.

    Args:
        text: Markdown of `markdown`.
        plot: the PNG's bytes, which go into the page.
    """
    import markdown as converter

    body = converter.markdown(text, extensions=["tables"])
    image = f"data:image/png;base64,{base64.b64encode(plot).decode()}"
    title = html.escape(re.match(r"# (.*)", text)[1])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{body.replace(PLOT, image)}\n</body></html>\n"
    )


_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}"
    "img{max-width:100%}"
)


def draw(facts, path) -> None:
    """NDCG@K of every segment over K, as PNG.

    Args:
        facts: `Facts`.
        path: of the file.
    """
    from pipeline.evaluation.plots import figure

    drawn = figure(5, 3)
    axes = drawn.subplots()
    ks = facts.config.evaluate.ks
    for segment in SEGMENTS:
        if segment in facts.rows:
            axes.plot(ks, [facts.rows[segment][f"ndcg@{k}"] for k in ks], "o-", label=segment)
    axes.set(xlabel="K", ylabel="NDCG@K", ylim=(0, None), xticks=ks)
    axes.legend()
    drawn.savefig(path, dpi=120)


def _verdict(facts):
    if not facts.failures:
        return "**Blessed**: every bound of the gate is met."
    return "\n".join(
        ["**Not blessed**:", "", *(f"- {line}" for line in map(plain, facts.failures))]
    )


def _description(facts):
    model = facts.config.model
    return (
        f"A sequential recommender ({model.backbone}, width {model.width}) for users with a "
        "history, and for users without one: from their features a mapper simulates the history "
        "that the same recommender reads (CMCLRec, doi:10.1145/3626772.3657839). It answers with "
        f"the {facts.config.serve.list_length} items that a user is likeliest to take next, out of "
        f"{facts.items}."
    )


def _data(facts):
    rows = [
        (plain(f.name), f.kind, f"{f.known:.1%}", "" if f.values is None else str(f.values))
        for f in facts.fields
    ]
    table = _table(("user feature", "kind", "known of train users", "different values"), rows)
    told = [f"{label}: {plain(text)}" for label, text in _origins(facts) if text]
    return "\n\n".join([*told, f"Users: {facts.population}.", table])


def _origins(facts):
    return ("Origin", facts.origin), ("Terms", facts.terms)


def _quality(facts):
    wanted = facts.config.evaluate
    names = [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in wanted.ks]
    names.append(f"coverage@{wanted.k}")
    rows = [
        (segment, f"{values['users']:.0f}", *(_number(values.get(name)) for name in names))
        for segment in SEGMENTS
        if (values := facts.rows.get(segment))
    ]
    said = (
        "Test users whom training never saw; full ranking of all items that the train split knows; "
        "relevant is what the test records hold as target. Coverage counts the different items in "
        "the lists of a segment."
    )
    sure = [
        (segment, *_sure(facts.rows[segment], wanted.k))
        for segment in SEGMENTS
        if segment in facts.rows
    ]
    return "\n\n".join(
        [
            said,
            _table(("segment", "users", *names), rows),
            "With 95 % confidence intervals, of users drawn anew and the same model:",
            _table(("segment", "users", *_means(wanted.k)), sure),
        ]
    )


def _sliced(facts):
    rows, left_out = shown(facts.slices)
    if not rows:
        return
    yield "## Quality by user feature"
    yield "A user counts for each value of a feature, and one without any for none."
    k = facts.config.evaluate.k
    yield _table(
        ("user feature", "value", "segment", "users", *_means(k)),
        [(plain(s.feature), plain(s.value), s.segment, *_sure(s.metrics, k)) for s in rows],
    )
    for feature, number in left_out.items():
        yield f"{plain(feature)} has {number} more values, each of fewer users."


def _means(k):
    return f"recall@{k}", f"ndcg@{k}"


def _sure(metrics, k):
    return f"{metrics['users']:.0f}", *(told(metrics, name) for name in _means(k))


def _limits(facts):
    yield "Judged offline, on what users took by themselves, not on what they do with the lists."
    yield "Items that the train split does not know are never recommended."
    for segment in (WARM, COLD):
        values = facts.rows.get(segment)
        if values is None:
            yield f"No {segment} user was in the test split: nothing is known of this segment."
            continue
        if values["users"] < FEW_USERS:
            yield f"{segment}: {values['users']:.0f} users are few, see the intervals."
    for field in facts.fields:
        if field.known < 0.5:
            yield f"{plain(field.name)} is known of {field.known:.0%} of the train users only."
    if not facts.slices:
        yield "Quality by groups of users was not looked at, so nothing is said of its fairness."


def _making(facts):
    found = [f"`{path} = {value}`" for path, value in changed_settings(facts.config).items()]
    settings = "The default settings, but for " + ", ".join(found) if found else "Default settings"
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return f"{settings}. Seed {facts.config.seed}. {versions}."


def plain(text):
    """Text in which nothing is markup, for Markdown and for the HTML that is made of it."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>&])", lambda m: f"&#{ord(m[1])};", str(text))


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value):
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.0f}" if value > 1 else f"{value:.4f}"
