"""Search spaces: the settings that are tuned for each row, and their values."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from cmclrec_tf.search import BACKBONE, FEATURES, LEARNING, SPACE

if TYPE_CHECKING:
    from experiments.table_rows import Row

Space: TypeAlias = Mapping[str, tuple[float, ...]]
"""{path of a setting: its values}."""

_MLP: Space = {
    "learning_rate": (3e-4, 1e-3, 3e-3),
    "field_dropout": (0.1, 0.3, 0.5),
    "dropout": (0.1, 0.3, 0.5),
    "weight_decay": (0.02, 0.1, 0.5),
}
_TOWERS: Space = {
    "learning_rate": (3e-4, 1e-3, 3e-3),
    "history_dropout": (0.3, 0.5, 0.7),
    "dropout": (0.0, 0.2, 0.5),
    "hidden": (64, 128, 256),
}
_BASELINE: Space = {**LEARNING, **FEATURES}
_FACTORS: Space = {
    "baseline.regularisation": (0.3, 1.0, 10.0),
    "baseline.confidence": (2.0, 10.0, 40.0),
}
_WITHHELD: Space = {"baseline.withheld": (0.25, 0.5, 0.75)}
_STEPS: Space = {"baseline.inner_rate": (0.02, 0.1, 0.5), "baseline.inner_steps": (1, 3)}
_CONTRAST: Space = {"baseline.contrast": (0.1, 0.5, 0.9), "baseline.temperature": (0.1, 0.2, 0.5)}

_BASELINES: dict[str, Space] = {
    "clcrec": {**_FACTORS, **_CONTRAST, **_WITHHELD},
    "deep-music": _FACTORS,
    "dropout-net": {**_FACTORS, **_WITHHELD},
    "heater": {**_FACTORS, **_WITHHELD, "baseline.similarity": (0.1, 1.0, 10.0)},
    "melu": _STEPS,
    "meta-embedding": {**_STEPS, "baseline.cold_loss": (0.1, 0.5, 0.9)},
    "meta-tl": _STEPS,
    "mwuf": {**_FACTORS, **_WITHHELD, "baseline.temperature": (0.1, 0.2, 0.5)},
    "pdma": {
        **_STEPS,
        "baseline.patterns": (16, 32, 64),
        "baseline.exchanged": (0.0, 0.2, 0.4),
    },
    "sdcrec": {**_FACTORS, **_CONTRAST, **_WITHHELD, "baseline.neighbours": (5, 10, 30)},
}


def space(row: "Row") -> Space:
    """Returns the search space of a row; empty if the row trains nothing."""
    if row.is_simple:
        return {"peer": _TOWERS, "floor": _MLP}[row.kind] if row.simple_settings else {}
    if row.kind == "baseline":
        return {**_BASELINE, **_BASELINES[row.base]}
    return SPACE if row.is_cmclrec else BACKBONE
