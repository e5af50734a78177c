"""Start-up: what an import and the command's help take, and what they leave out.

python -m benchmarks.startup
"""

import subprocess
import sys

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
_LOADED = (
    "import sys, cmclrec_tf.training, serving.export.saved_model\n"
    "print(sum(n == 'tfx' for n in sys.modules))"
)


def measure(quick):
    """Median seconds of new processes."""
    from benchmarks.machine import median_seconds

    for what, code, limit in _CASES:
        took = median_seconds(lambda code=code: _run(code), 1 if quick else 5)
        yield Row(f"start-up, {what}", took, "s", at_most=limit)
    loaded = float(_run(_LOADED).stdout)
    yield Row("start-up, TFX modules loaded by training and export", loaded, "", at_most=0)


def _run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


if __name__ == "__main__":
    performance_table.main(measure, __doc__)
