"""A full disk has one text, which is printed once."""

import os

import click
import pytest
from click.testing import CliRunner

from cmclrec_tf.cli import ReadableGroup
from cmclrec_tf.errors import InputError
from cmclrec_tf.processes.whole import full_disk, whole_file
from cmclrec_tf.processes.writing import writing


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (28, "no space left on device. Free some space on its disk, then"),
        (122, "no space left on device. Free some space on its disk, then"),
        (27, "file too large. Raise the limit on the size of files (ulimit -f), then"),
    ],
)
def test_a_full_disk_has_one_text(number, text, tmp_path):
    shown = f"{tmp_path / 'file'}: {text} run the same command again."
    for context in (writing, whole_file):
        with pytest.raises(InputError) as caught, context(tmp_path / "file"):
            raise OSError(number, os.strerror(number), str(tmp_path / "file"))
        assert str(caught.value) == shown
    assert str(full_disk(caught.value)) == shown


def test_groups_within_groups_print_an_error_once():
    @click.group(cls=ReadableGroup)
    def outer():
        pass

    @outer.group(cls=ReadableGroup)
    def inner():
        pass

    @inner.command()
    def write():
        raise OSError(28, "No space left on device", "/a/b")

    done = CliRunner().invoke(outer, ["inner", "write"])
    line = "error: /a/b: no space left on device. Free some space on its disk, "
    assert done.exit_code == 2 and done.output.startswith(line) and done.output.count("\n") == 1
