"""Which tables there are, the rows of each, and which rows are told against each other."""

import dataclasses

from cmclrec_tf import backbones
from cmclrec_tf.config import ABLATIONS, ModelConfig
from experiments.paper_numbers import BASELINES, VARIANTS, Published
from experiments.table_rows import DEFAULT_ROWS, FLOORS

OURS = "default"


@dataclasses.dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of the command and of the files.
        rows: names of its rows, see `rows.rows`.
        pairs: names of rows that are told against each other beside those that each table tells.
        published: the paper's own numbers that stand below it.
    """

    name: str
    rows: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    published: Published | None = None


def _mapped(backbone):
    """The row of CMCLRec with a backbone."""
    return OURS if backbone == ModelConfig().backbone else f"{OURS}:model.backbone={backbone}"


QUALITY = Table("quality", DEFAULT_ROWS)
_PRINTED = ("deep-music", "dropout-net", "melu", "heater", "pdma", "sdcrec")
_RELATED = ("clcrec", "meta-tl", "meta-embedding", "mwuf")
TABLE1 = Table("table1", (*FLOORS, "sasrec", *_PRINTED, *_RELATED, OURS), published=BASELINES)
TABLE2 = Table(
    "table2", (*ABLATIONS, OURS), tuple((OURS, name) for name in ABLATIONS), published=VARIANTS
)
BACKBONES = Table(
    "backbones",
    tuple(row for name in backbones.names() for row in (name, _mapped(name))),
    tuple((_mapped(name), name) for name in backbones.names()),
)
