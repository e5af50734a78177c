"""Process that prepares one dataset, as described by JSON on standard input; see `run_datasets`."""

import json
import sys

from cmclrec_tf.cli import report
from cmclrec_tf.config import Config
from cmclrec_tf.processes import stopping
from pipeline.commands.prepare import prepare


def main() -> int:
    """Runs the data half of the pipeline; returns 2 if the input is wrong."""
    request = json.load(sys.stdin)
    config = Config.from_dict({"data": request["data"]})
    stopping.install(quiet=True)  # the command that started this process prints the line
    try:
        prepare(
            request["dataset"],
            request["out"],
            config,
            data_dir=request["data_dir"],
            root=request["root"],
        )
    except BaseException as error:
        report(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
