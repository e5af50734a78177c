"""`cmclrec serve` in a process of its own, for what loads it, kills it or restarts it."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

from cmclrec_tf.errors import ReadableError

# The command itself, whether or not the package is installed.
_COMMAND = "from serving.commands.serve import serve; serve(prog_name='cmclrec serve')"
_SERVING = re.compile(r"Serving .* version (\d+) on (\S+):(\d+) \(gRPC\)(?:, \S+:(\d+) \(REST\))?")


class ServerProcess:
    """A server over a model base path; a context manager.

    Args:
        model_base_path: folder of versions; None with --model_config_file among `flags`.
        flags: further flags of `cmclrec serve`, as `["--enable_batching"]`.
        port, rest_port: 0 takes free ones; a `rest_port` of None serves no REST.
        seconds: that the start may take.

    Attributes:
        port, rest_port: where it listens.
        log: what it wrote on standard error, a file.

    Raises:
        ReadableError: it does not start.
    """

    def __init__(self, model_base_path=None, flags=(), port=0, rest_port=0, seconds=120):
        arguments = ["--port", port, *flags]
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
            # Ctrl-C is for the one who asks; the server is stopped by it.
            start_new_session=True,
        )
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        found = _SERVING.search(line)
        if not found:
            self.kill()
            said = self.log.read_text(errors="replace").strip().splitlines() or ["no message"]
            self.log.unlink()
            raise ReadableError(f"cmclrec serve did not start: {said[-1]}")
        self.version, self.host = int(found[1]), found[2]
        self.port, self.rest_port = int(found[3]), int(found[4]) if found[4] else None

    @property
    def target(self) -> str:
        """`host:port` of gRPC."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Of REST."""
        return f"http://{self.host}:{self.rest_port}"

    @property
    def megabytes(self):
        """Resident memory; None once it has ended or where /proc does not tell."""
        with contextlib.suppress(OSError, StopIteration):
            lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            line = next(line for line in lines if line.startswith("VmRSS:"))
            return round(int(line.split()[1]) / 1024)
        return None

    @property
    def processor_seconds(self):
        """Processor time of all its threads so far; None where /proc does not tell."""
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
            # The name in parentheses may hold anything; user and system time are fields 14 and 15.
            fields = text.rpartition(")")[2].split()
            return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
        return None

    def terminate(self, seconds=30):
        """Stops it as a supervisor does, by SIGTERM; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._log.close()
            self.process.stdout.close()

    def kill(self) -> None:
        """Ends it at once, by SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._log.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self.terminate()
        finally:
            self.log.unlink(missing_ok=True)
