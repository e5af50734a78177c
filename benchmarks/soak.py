"""Runs a served model under load and faults for minutes; no answer may be wrong or missing.

It measures no ratio: it exits with 1 if an answer differs from what Keras computes or is lost, or
if the server takes more memory than its limits allow. docs/serving_load.md lists the callers and
the faults.

    python -m benchmarks.soak --minutes 10
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import soak_models
from benchmarks.soak_callers import Callers, letter_of
from benchmarks.soak_hostile import HostileCallers
from serving.load.process import ServerProcess

# Requests may take this much memory; the rest is for models that are loaded and freed.
_WAITING_MEGABYTES, _OTHER_MEGABYTES = 512, 512
_FLAGS = [
    "--file_system_poll_wait_seconds=0.5",
    f"--max_waiting_bytes={_WAITING_MEGABYTES * 2**20}",
]


class Faults:
    """Causes faults around a server, one after the other.

    Args:
        exports: folder of the exports.
        base: model base path.
        server: the running server.

    Attributes:
        server: the server that runs now.
        done: `{fault: how often it was caused}`.
    """

    def __init__(self, exports: pathlib.Path, base: pathlib.Path, server: ServerProcess):
        self._exports, self._base, self.server = exports, base, server
        self._version = server.version
        self.done: collections.Counter[str] = collections.Counter()
        self._kinds = itertools.cycle(
            [self.swap, self.truncate, self.flood, self.swap, self.lose_variables]
            + [self.stall, self.roll_back, self.kill, self.swap, self.terminate]
        )

    def next(self) -> str:
        """Causes the next fault and returns its name."""
        fault = next(self._kinds)
        fault()
        self.done[fault.__name__] += 1
        return fault.__name__

    def swap(self) -> None:
        """Pushes the other model as a new version and removes old versions."""
        self._push()
        for old in sorted(self._versions())[:-3]:
            shutil.rmtree(self._base / str(old))

    def truncate(self) -> None:
        """Pushes a version whose saved_model.pb is cut short."""
        self._push(lambda folder: os.truncate(folder / "saved_model.pb", 5000))

    def lose_variables(self) -> None:
        """Pushes a version without its weights."""
        self._push(lambda folder: shutil.rmtree(folder / "variables"))

    def roll_back(self) -> None:
        """Moves the newest version aside."""
        newest = self._base / str(max(self._versions()))
        newest.rename(newest.with_name(f"{newest.name}.rolled-back"))

    def flood(self) -> None:
        """Opens hundreds of connections that send nothing."""
        with contextlib.ExitStack() as stack:
            for port in self._ports * 150:
                stack.enter_context(socket.create_connection((self.server.host, port), timeout=30))

    def stall(self) -> None:
        """Opens connections that send half a request and then nothing."""
        starts = (
            b"PRI * HTTP/2.0\r\n\r\nSM",
            b"POST /v1/models/cmclrec:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
        )
        with contextlib.ExitStack() as stack:
            for port, text in [*zip(self._ports, starts, strict=True)] * 10:
                slow = stack.enter_context(
                    socket.create_connection((self.server.host, port), timeout=30)
                )
                slow.sendall(text)
            time.sleep(2)

    def kill(self) -> None:
        """Kills the server with SIGKILL and starts it again."""
        self.server.kill()
        self._start()

    def terminate(self) -> None:
        """Stops the server with SIGTERM, which lets it answer requests, and starts it again."""
        if self.server.terminate() != 0:
            raise SystemExit("the server did not exit with 0 after SIGTERM")
        self._start()

    @property
    def _ports(self) -> tuple[int, int]:
        assert self.server.rest_port is not None  # the soak serves REST
        return self.server.port, self.server.rest_port

    def _start(self) -> None:
        self.server = ServerProcess(
            self._base, _FLAGS, port=self.server.port, rest_port=self.server.rest_port
        )

    def _push(self, damage: Callable[[pathlib.Path], None] = lambda folder: None) -> None:
        # Even and odd versions are different models, so each push changes the model.
        self._version += 1
        aside = self._base / f".aside-{self._version}"
        shutil.copytree(self._exports / letter_of(self._version), aside)
        damage(aside)
        aside.rename(self._base / str(self._version))

    def _versions(self) -> list[int]:
        return [int(path.name) for path in self._base.iterdir() if path.name.isdigit()]


def soak(
    minutes: float,
    seed: int = 0,
    pause: float = 6.0,
    expect_other_model: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Runs the soak.

    Args:
        minutes: duration of load and faults, after the training of the models.
        seed: seeds the models and the requests.
        pause: seconds between two faults.
        expect_other_model: expects the answers of the wrong model, to test that the soak notices.
        report: called with one line of progress after each fault.

    Returns:
        The summary, as JSON values.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        cases = soak_models.build(folder, seed)
        if expect_other_model:
            swap = lambda by_letter: {"a": by_letter["b"], "b": by_letter["a"]}
            parts = ("scores", "history_scores", "states")
            cases = [
                dataclasses.replace(case, **{name: swap(getattr(case, name)) for name in parts})
                for case in cases
            ]
        base = folder / "cmclrec"
        shutil.copytree(folder / letter_of(1), base / "1")
        with ServerProcess(base, _FLAGS) as first:
            memory = [first.megabytes or 0]
            where = cases, first.target, first.host, first.rest_port
            callers = Callers(*where, seed)
            hostile = HostileCallers(*where, callers.tally, seed)
            faults = Faults(folder, base, first)
            start = time.monotonic()
            callers.start()
            hostile.start()
            try:
                while (elapsed := time.monotonic() - start) < 60 * minutes:
                    time.sleep(min(pause, 60 * minutes - elapsed))
                    memory.append(faults.server.megabytes or 0)
                    tally = callers.tally
                    report(
                        f"{time.monotonic() - start:4.0f} s, {faults.next()}: "
                        f"{sum(tally.answered.values())} answered, {len(tally.lost)} lost, "
                        f"{len(tally.wrong)} wrong, {memory[-1]} MB"
                    )
            finally:
                callers.stop()
                hostile.stop()
                if faults.server is not first:
                    faults.server.terminate()
        tally = callers.tally
        return {
            "minutes": minutes,
            "answered": dict(sorted(tally.answered.items())),
            "refused": dict(sorted(tally.refused.items())),
            "faults": dict(faults.done),
            "versions": len(tally.versions),
            "milliseconds": {
                f"p{p}": round(1e3 * float(np.percentile(tally.seconds, p)), 1) for p in (50, 99)
            },
            "megabytes": [memory[0], max(memory)],
            "most_megabytes": memory[0] + _WAITING_MEGABYTES + _OTHER_MEGABYTES,
            "lost": len(tally.lost),
            "wrong": len(tally.wrong),
            "first_failures": (tally.lost + tally.wrong)[:20],
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="Duration of load and faults in minutes."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of models and requests.")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write the summary to.")
    arguments = parser.parse_args()
    summary = soak(arguments.minutes, arguments.seed, report=lambda line: print(line, flush=True))
    text = json.dumps(summary, indent=1)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)
    is_bounded = summary["megabytes"][1] <= summary["most_megabytes"]
    sys.exit(bool(summary["lost"] or summary["wrong"] or not is_bounded))


if __name__ == "__main__":
    main()
