"""What a run prints, what goes to its log, and how its errors surface."""

import io
import logging
import os
import re
import sys
import time
import warnings

import pytest

from cmclrec_tf.errors import InputError
from pipeline.runners import progress
from pipeline.runners.progress import ticking
from pipeline.runners.quiet import quiet


def test_quiet_keeps_progress_and_logs_the_rest(tmp_path, capfd):
    log = tmp_path / "logs" / "run.log"
    handlers = logging.getLogger().handlers[:]
    with quiet(log):
        print("progress", file=sys.stderr, flush=True)
        logging.getLogger("some.library").info("a detail")
        warnings.warn("an old habit", stacklevel=1)
        os.write(2, b"native\n")
    os.write(2, b"after\n")
    shown = capfd.readouterr()
    assert "progress" in shown.err and "after" in shown.err
    text = log.read_text()
    for message in ("a detail", "an old habit", "native"):
        assert message in text and message not in shown.err + shown.out
    assert "after" not in text
    assert logging.getLogger().handlers == handlers


def test_quiet_ends_after_an_error(tmp_path, capfd):
    with pytest.raises(KeyError), quiet(tmp_path / "run.log"):
        raise KeyError
    os.write(2, b"after\n")
    assert "after" in capfd.readouterr().err


@pytest.mark.pipeline
def test_an_input_error_is_found_behind_others():
    from pipeline.runners.local import _input_error

    bad = InputError("row 3 of /a/b: c.csv", "it must be. whole", "Fix it. Soon.")
    text = f"{type(bad).__module__}.InputError: {bad}"
    try:
        try:
            raise bad
        except InputError as error:
            raise RuntimeError("wrapped") from error
    except RuntimeError as error:
        assert _input_error(error) is bad
    beam = RuntimeError(f"Traceback ...\n  raise x\n{text} [while running 'A/B']\n\nmore")
    assert str(_input_error(beam)) == str(bad)
    assert _input_error(RuntimeError("some InputError in the prose")) is None


def test_a_log_on_a_full_disk_is_left_out(capfd):
    with quiet("/dev/full"):
        logging.getLogger("some.library").info("a detail")
        print("progress", file=sys.stderr, flush=True)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "progress\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _shown(stream, silent=0.2):
    """Returns what is printed while nothing else is for a while."""
    deadline = time.monotonic() + 5
    while not stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(silent)
    return stream.getvalue()


@pytest.mark.parametrize(("stream", "line"), [(Terminal(), "\r{}"), (io.StringIO(), "{}\n")])
def test_a_silent_component_prints_how_long_it_has_been_running(monkeypatch, stream, line):
    monkeypatch.setattr(sys, "stderr", stream)
    with ticking("[3/9] Transform ...", pause=0.02):
        assert _shown(stream).startswith(line.format("[3/9] Transform ... 0 s"))
    printed = stream.getvalue()
    assert printed.count("Transform") > 1
    time.sleep(0.1)
    assert stream.getvalue() == printed and sys.stderr is stream


def test_a_component_that_prints_is_left_alone(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with ticking("Trainer ...", pause=0.3):
        for _ in range(8):
            print("epoch", file=sys.stderr)
            time.sleep(0.05)
        assert "Trainer" not in stream.getvalue()
        print("\r50 %", end="", file=sys.stderr)  # the line of a progress bar stays open
        time.sleep(0.5)
        assert "Trainer" not in stream.getvalue()
        print(file=sys.stderr)
        time.sleep(0.5)
        print("epoch", file=sys.stderr)
    # What comes after the title, or after a line of the ticker, starts on a line of its own.
    assert stream.getvalue().startswith("\nepoch\n")
    assert re.search(r"50 %\n\rTrainer \.\.\. [1-9] s\nepoch\n$", stream.getvalue())


@pytest.mark.pipeline
def test_the_steps_of_beam_are_counted(monkeypatch):
    import apache_beam as beam

    from pipeline.runners.local import BEAM_ARGS

    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)

    def slow(number):
        time.sleep(0.3)
        return number

    with ticking("Evaluator ...", pause=0.05), beam.Pipeline(argv=list(BEAM_ARGS)) as pipeline:
        numbers = pipeline | beam.Create([1]) | "first" >> beam.Map(slow)
        _ = numbers | beam.Reshuffle() | "second" >> beam.Map(slow)
    steps = [int(line.split()[-1]) for line in stream.getvalue().splitlines() if "step" in line]
    assert steps == sorted(steps) and len(set(steps)) > 1
    assert not logging.getLogger(progress._BEAM_STEPS).handlers
