"""The commands and the code in the README work as printed."""

import pathlib
import re
import subprocess
import sys

import pytest

from cmclrec_tf.data.in_memory import prepare_tables
from tests.conftest import FEATURES

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_the_experiment_trains_without_tfx(records, tmp_path):
    prepare_tables(records, FEATURES, tmp_path / "var/prepared/movielens-100k", max_history=50)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    short = re.sub(r"epochs=\d+", "epochs=1", code)
    short += "import sys; assert not {'tfx', 'apache_beam'} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"CMCLRec +[01]\.\d{4}", done.stdout)


def test_every_make_target_and_command_named_exists():
    from cmclrec_tf.cli import main

    text = (ROOT / "README.md").read_text() + (ROOT / "WORKSPACE.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make (\w+)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in set(re.findall(r"cmclrec (prepare|pipeline|serve|recommend|\w+start)\b", text)):
        assert main.get_command(None, command) is not None, command


def test_every_file_named_exists():
    for page in ("README.md", "WORKSPACE.md"):
        for target in re.findall(r"\]\(([^):]+)\)", (ROOT / page).read_text()):
            assert (ROOT / target).is_file(), f"{page} names {target}"
