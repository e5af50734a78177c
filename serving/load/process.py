"""Runs `cmclrec serve` as a child process that a test or benchmark can load, kill and restart."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable

from cmclrec_tf.errors import ReadableError

# Runs the command even if the package is not installed.
_COMMAND = "from serving.commands.serve import serve; serve(prog_name='cmclrec serve')"
_SERVING = re.compile(r"Serving .* version (\d+) on (\S+):(\d+) \(gRPC\)(?:, \S+:(\d+) \(REST\))?")


class ServerProcess:
    """A local server in a child process; a context manager.

    Args:
        model_base_path: folder of versions; None if `flags` has --model_config_file.
        flags: further flags of `cmclrec serve`, such as `["--log_requests"]`.
        port: gRPC port; 0 takes a free one.
        rest_port: REST port; 0 takes a free one, None serves no REST.
        seconds: how long the start may take.

    Attributes:
        version: version that the server started with.
        host, port, rest_port: addresses that the server listens on.
        process: the child process.
        log: path of the file with its standard error.

    Raises:
        ReadableError: the server does not start.
    """

    def __init__(
        self,
        model_base_path: str | os.PathLike[str] | None = None,
        flags: Iterable[object] = (),
        port: int = 0,
        rest_port: int | None = 0,
        seconds: float = 120,
    ):
        arguments: list[object] = ["--port", port, *flags]
        if model_base_path is not None:
            arguments += ["--model_base_path", model_base_path]
        if rest_port is not None:
            arguments += ["--rest_api_port", rest_port]
        handle, path = tempfile.mkstemp(suffix=".log")
        self.log, self._log = pathlib.Path(path), os.fdopen(handle, "w")
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            # Ctrl-C reaches only this process, which then stops the server.
            start_new_session=True,
        )
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        assert self.process.stdout is not None  # it is a pipe
        line = self.process.stdout.readline()
        timer.cancel()
        match = _SERVING.search(line)
        if not match:
            self.kill()
            errors = self.log.read_text(errors="replace").strip().splitlines() or ["no message"]
            self.log.unlink()
            raise ReadableError(f"cmclrec serve did not start: {errors[-1]}")
        self.version, self.host = int(match[1]), match[2]
        self.port, self.rest_port = int(match[3]), int(match[4]) if match[4] else None

    @property
    def target(self) -> str:
        """gRPC address, `host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """REST address, `http://host:port`."""
        return f"http://{self.host}:{self.rest_port}"

    @property
    def megabytes(self) -> int | None:
        """Resident memory; None after the process has ended or on a system without /proc."""
        with contextlib.suppress(OSError, StopIteration):
            lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            line = next(line for line in lines if line.startswith("VmRSS:"))
            return round(int(line.split()[1]) / 1024)
        return None

    @property
    def processor_seconds(self) -> float | None:
        """Processor time of all threads since the start; None on a system without /proc."""
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
            # The second field is the name in parentheses, which may contain spaces and parentheses;
            # user and system time are fields 14 and 15.
            fields = text.rpartition(")")[2].split()
            return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
        return None

    def terminate(self, seconds: float = 30) -> int:
        """Stops the server with SIGTERM, as a supervisor does, and returns its exit code.

        Raises:
            subprocess.TimeoutExpired: it was still running after `seconds` and was killed.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._close()

    def kill(self) -> None:
        """Ends the server at once with SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self._log.close()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.terminate()
        finally:
            self.log.unlink(missing_ok=True)
