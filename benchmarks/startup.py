"""Start-up: what an import and the command's help take, and what they leave out.

python -m benchmarks.startup
"""

import statistics
import subprocess
import sys
import time

from benchmarks import table
from benchmarks.table import Row

_CASES = (
    ("`import cmclrec_tf`", "import cmclrec_tf", 4.0),
    ("`cmclrec --help`", "from cmclrec_tf.cli import main; main(['--help'])", 1.0),
    (
        "`cmclrec recommend --help`",
        "from cmclrec_tf.cli import main; main(['recommend', '--help'])",
        None,
    ),
    ("`import serving.client`", "import serving.client", None),
)
_LOADED = (
    "import sys, cmclrec_tf.training, serving.export; print(sum(n == 'tfx' for n in sys.modules))"
)


def measure(quick):
    """Median seconds of new processes."""
    for what, code, limit in _CASES:
        found = []
        for _ in range(1 if quick else 5):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            found.append(time.perf_counter() - began)
        yield Row(f"start-up, {what}", statistics.median(found), "s", at_most=limit)
    done = subprocess.run(
        [sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True
    )
    yield Row(
        "start-up, TFX modules loaded by training and export", float(done.stdout), "", at_most=0
    )


if __name__ == "__main__":
    table.main(measure, __doc__)
