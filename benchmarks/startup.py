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
    ("`import cmclrec_tf.schema`, without Keras", "import cmclrec_tf.schema", 1.0),
    ("`cmclrec --help`", "from cmclrec_tf.cli import main; main(['--help'])", 1.0),
    (
        "`cmclrec recommend --help`",
        "from cmclrec_tf.cli import main; main(['recommend', '--help'])",
        None,
    ),
    ("`import serving.client.sync`", "import serving.client.sync", 1.0),
)
_TFX_MODULES = (
    "import sys, cmclrec_tf.training, serving.export.saved_model\n"
    "print(sum(n == 'tfx' for n in sys.modules))"
)


def measure(quick: bool) -> Iterator[Row]:
    """Yields the median seconds of new processes."""
    from benchmarks.machine import median_seconds

    repeats = 1 if quick else 5
    for what, code, limit in _CASES:
        seconds = median_seconds(functools.partial(_run, code), repeats)
        yield Row(f"start-up, {what}", seconds, "s", at_most=limit)
    keras, library = (
        median_seconds(functools.partial(_run, f"import {name}"), repeats)
        for name in ("keras", "cmclrec_tf")
    )
    yield Row(
        "start-up, `import cmclrec_tf`, which registers the models, against `import keras`",
        library / keras,
        "x",
        at_most=1.3,
        detail=f"{library:.2f} s and {keras:.2f} s",
    )
    count = float(_run(_TFX_MODULES).stdout)
    yield Row("start-up, TFX modules loaded by training and export", count, "", at_most=0)


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


if __name__ == "__main__":
    performance_table.main(measure, __doc__)
