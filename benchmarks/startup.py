"""Measures how long imports and `cmclrec --help` take, and that training does not import TFX.

python -m benchmarks.startup
"""

import functools
import subprocess
import sys
from collections.abc import Iterator

from benchmarks import performance_table
from benchmarks.performance_table import Row

_CASES = (
    ("`import cmclrec_tf`", "import cmclrec_tf", 4.0),
    ("`cmclrec --help`", "from cmclrec_tf.cli import main; main(['--help'])", 1.0),
    (
        "`cmclrec recommend --help`",
        "from cmclrec_tf.cli import main; main(['recommend', '--help'])",
        None,
    ),
    ("`import serving.client.sync`", "import serving.client.sync", None),
)
_TFX_MODULES = (
    "import sys, cmclrec_tf.training, serving.export.saved_model\n"
    "print(sum(n == 'tfx' for n in sys.modules))"
)


def measure(quick: bool) -> Iterator[Row]:
    """Yields the median seconds of new processes."""
    from benchmarks.machine import median_seconds

    for what, code, limit in _CASES:
        seconds = median_seconds(functools.partial(_run, code), 1 if quick else 5)
        yield Row(f"start-up, {what}", seconds, "s", at_most=limit)
    count = float(_run(_TFX_MODULES).stdout)
    yield Row("start-up, TFX modules loaded by training and export", count, "", at_most=0)


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


if __name__ == "__main__":
    performance_table.main(measure, __doc__)
