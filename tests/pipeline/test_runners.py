"""What a run prints, what goes to its log, and how its errors surface."""

import logging
import os
import sys
import warnings

import pytest

from cmclrec_tf.errors import InputError
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
