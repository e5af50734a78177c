"""A served model under load and faults for minutes: nothing lost, nothing wrong.

python -m benchmarks.soak --minutes 10
"""

import argparse
import collections
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import soak_models
from benchmarks.soak_callers import Callers, letter_of
from serving.load.process import ServerProcess

_FLAGS = ["--file_system_poll_wait_seconds=0.5"]


class Faults:
    """What goes wrong around a server, one thing after the other.

    Args:
        exports: folder of the exports.
        base: model base path.
        server: the running `ServerProcess`.
    """

    def __init__(self, exports, base, server):
        self._exports, self._base, self.server = exports, base, server
        self._version = server.version
        self.done = collections.Counter()
        self._kinds = itertools.cycle(
            [self.swap, self.truncate, self.flood, self.swap, self.lose_variables]
            + [self.stall, self.roll_back, self.kill, self.swap, self.terminate]
        )

    def next(self):
        """Does the next one; returns its name."""
        fault = next(self._kinds)
        fault()
        self.done[fault.__name__] += 1
        return fault.__name__

    def swap(self) -> None:
        """The other model as a new version."""
        self._push()
        for old in sorted(self._versions())[:-3]:
            shutil.rmtree(self._base / str(old))

    def truncate(self) -> None:
        """A new version that is cut short."""
        self._push(lambda folder: os.truncate(folder / "saved_model.pb", 5000))

    def lose_variables(self) -> None:
        """A new version without its weights."""
        self._push(lambda folder: shutil.rmtree(folder / "variables"))

    def roll_back(self) -> None:
        """The newest version is moved aside."""
        newest = self._base / str(max(self._versions()))
        newest.rename(newest.with_name(f"{newest.name}.rolled-back"))

    def flood(self) -> None:
        """Hundreds of connections that ask nothing."""
        with contextlib.ExitStack() as stack:
            for port in (self.server.port, self.server.rest_port) * 150:
                stack.enter_context(socket.create_connection((self.server.host, port), timeout=30))

    def stall(self) -> None:
        """Clients that send half a request and then nothing."""
        begun = {
            self.server.port: b"PRI * HTTP/2.0\r\n\r\nSM",
            self.server.rest_port: b"POST /v1/models/cmclrec:predict HTTP/1.1\r\n"
            b"Content-Length: 100\r\n\r\n{",
        }
        with contextlib.ExitStack() as stack:
            for port, text in list(begun.items()) * 10:
                slow = stack.enter_context(
                    socket.create_connection((self.server.host, port), timeout=30)
                )
                slow.sendall(text)
            time.sleep(2)

    def kill(self) -> None:
        """SIGKILL and a new start."""
        self.server.kill()
        self._start()

    def terminate(self) -> None:
        """SIGTERM and a new start: it answers what is under way, and leaves in order."""
        if self.server.terminate() != 0:
            raise SystemExit("the server did not end in order")
        self._start()

    def _start(self):
        self.server = ServerProcess(
            self._base, _FLAGS, port=self.server.port, rest_port=self.server.rest_port
        )

    def _push(self, damage=lambda folder: None):
        # A version's parity tells its model, so every number is of the other one.
        self._version += 1
        aside = self._base / f".aside-{self._version}"
        shutil.copytree(self._exports / letter_of(self._version), aside)
        damage(aside)
        aside.rename(self._base / str(self._version))

    def _versions(self):
        return [int(path.name) for path in self._base.iterdir() if path.name.isdigit()]


def soak(minutes, seed=0, pause=6.0, mixed_up=False, told=print):
    """Runs the soak.

    Args:
        minutes: of load and faults; training comes on top.
        seed: of the models and of the requests.
        pause: seconds between two faults.
        mixed_up: expects the answers of the other model: a check of the check.
        told: is given progress, a line at a time.

    Returns:
        The summary, JSON values.
    """
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        cases = soak_models.build(folder, seed)
        if mixed_up:
            swap = lambda by_letter: {"a": by_letter["b"], "b": by_letter["a"]}
            cases = [
                soak_models.Case(case.user, swap(case.scores), swap(case.states)) for case in cases
            ]
        base = folder / "cmclrec"
        shutil.copytree(folder / letter_of(1), base / "1")
        with ServerProcess(base, _FLAGS) as first:
            server, memory = first, [first.megabytes]
            callers = Callers(cases, server.target, server.host, server.rest_port, seed)
            faults = Faults(folder, base, server)
            start = time.monotonic()
            callers.start()
            try:
                while (passed := time.monotonic() - start) < 60 * minutes:
                    time.sleep(min(pause, 60 * minutes - passed))
                    memory.append(faults.server.megabytes)
                    tally = callers.tally
                    told(
                        f"{time.monotonic() - start:4.0f} s, {faults.next()}: "
                        f"{sum(tally.answered.values())} answered, {len(tally.lost)} lost, "
                        f"{len(tally.wrong)} wrong, {memory[-1]} MB"
                    )
            finally:
                callers.stop()
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
            "megabytes": [min(memory), max(memory)],
            "lost": len(tally.lost),
            "wrong": len(tally.wrong),
            "first_failures": (tally.lost + tally.wrong)[:20],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, help="Where the summary goes, as JSON.")
    given = parser.parse_args()
    summary = soak(given.minutes, given.seed, told=lambda line: print(line, flush=True))
    text = json.dumps(summary, indent=1)
    print(text)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text)
    sys.exit(bool(summary["lost"] or summary["wrong"]))


if __name__ == "__main__":
    main()
