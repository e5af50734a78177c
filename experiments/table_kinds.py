"""The tables of `cmclrec experiment`: their rows, and the pairs of rows that they compare."""

import dataclasses

from cmclrec_tf import backbones
from cmclrec_tf.config import ABLATIONS, ModelConfig
from experiments.paper_numbers import BASELINES, VARIANTS, Published
from experiments.simple_rows import FLOORS
from experiments.table_rows import DEFAULT_ROWS

OURS = "default"


@dataclasses.dataclass(frozen=True)
class Table:
    """One kind of table.

    Attributes:
        name: name of the command and of the files.
        rows: names of the rows, see `table_rows.parse_rows`.
        pairs: pairs of rows to compare, in addition to each CMCLRec row with the best other row.
        published: the paper's own numbers, printed below the table.
    """

    name: str
    rows: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    published: Published | None = None


def _cmclrec_with(backbone: str) -> str:
    """Returns the name of the CMCLRec row with a backbone."""
    return OURS if backbone == ModelConfig().backbone else f"{OURS}:model.backbone={backbone}"


QUALITY = Table("quality", DEFAULT_ROWS)
_IN_THE_PAPER = ("deep-music", "dropout-net", "melu", "heater", "pdma", "sdcrec")
_RELATED = ("clcrec", "meta-tl", "meta-embedding", "mwuf")
TABLE1 = Table("table1", (*FLOORS, "sasrec", *_IN_THE_PAPER, *_RELATED, OURS), published=BASELINES)
TABLE2 = Table(
    "table2", (*ABLATIONS, OURS), tuple((OURS, name) for name in ABLATIONS), published=VARIANTS
)
BACKBONES = Table(
    "backbones",
    tuple(row for name in backbones.names() for row in (name, _cmclrec_with(name))),
    tuple((_cmclrec_with(name), name) for name in backbones.names()),
)
