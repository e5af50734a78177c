"""Which files a module loads, by its imports, and which components run again when one changes."""

import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from pipeline.metadata.code_digests import digest
from pipeline.metadata.import_closure import closure

PACKAGES = ("toypkg", "toyother")
# A package tree in miniature: file -> text.
TREE = {
    "toypkg/__init__.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from toypkg.deep.lazy import Lazy\n"
        "def load():\n"
        "    from toypkg import loader\n"
        "def __getattr__(name): ...\n"
    ),
    "toypkg/loader.py": "",
    "toypkg/leaf.py": "import json, os.path\n",
    "toypkg/top.py": "from toypkg.leaf import value\n",
    "toypkg/in_function.py": (
        "def outer():\n"
        "    try:\n"
        "        with open('x'):\n"
        "            import toypkg.leaf as leaf\n"
        "    except OSError:\n"
        "        from toypkg import loader\n"
    ),
    "toypkg/typing_only.py": (
        "import typing\n"
        "if typing.TYPE_CHECKING:\n"
        "    from toypkg.leaf import Value\n"
        "else:\n"
        "    import toypkg.loader\n"
    ),
    "toypkg/takes_typing_only.py": "from toypkg.typing_only import Value\n",
    "toypkg/takes_lazy.py": "from toypkg import Lazy\n",
    "toypkg/takes_load.py": "from toypkg import load\n",
    "toypkg/takes_all.py": "import toypkg\n",
    "toypkg/cycle_a.py": "import toypkg.cycle_b\n",
    "toypkg/cycle_b.py": "from toypkg.cycle_a import name\n",
    "toypkg/deep/__init__.py": "",
    "toypkg/deep/lazy.py": "from ..leaf import value\n",
    "toypkg/deep/relative.py": "from . import sibling\nfrom .. import cycle_a\n",
    "toypkg/deep/sibling.py": "from toyother import thing\n",
    "toyother/thing.py": "",
}
LEAF = {"toypkg", "toypkg.leaf"}
CYCLE = {"toypkg", "toypkg.cycle_a", "toypkg.cycle_b"}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("toypkg.leaf", LEAF),
        ("toypkg.top", {*LEAF, "toypkg.top"}),
        ("toypkg.in_function", {*LEAF, "toypkg.loader", "toypkg.in_function"}),
        ("toypkg.typing_only", {"toypkg", "toypkg.loader", "toypkg.typing_only"}),
        (
            "toypkg.takes_typing_only",
            {"toypkg", "toypkg.loader", "toypkg.typing_only", "toypkg.takes_typing_only"},
        ),
        ("toypkg.takes_lazy", {*LEAF, "toypkg.takes_lazy", "toypkg.deep", "toypkg.deep.lazy"}),
        ("toypkg.takes_load", {"toypkg", "toypkg.takes_load", "toypkg.loader"}),
        (
            "toypkg.takes_all",
            {*LEAF, "toypkg.takes_all", "toypkg.deep", "toypkg.deep.lazy", "toypkg.loader"},
        ),
        ("toypkg.cycle_a", CYCLE),
        ("toypkg.cycle_b", CYCLE),
        (
            "toypkg.deep.relative",
            {*CYCLE, "toypkg.deep", "toypkg.deep.relative", "toypkg.deep.sibling"}
            | {"toyother.thing"},
        ),
    ],
)
def test_the_closure_of_a_module(tree, module, expected):
    files = closure([module], PACKAGES)
    assert set(files) == expected
    assert all(path.is_relative_to(tree) and path.is_file() for path in files.values())
    assert not any(name.startswith(PACKAGES) for name in sys.modules)


def test_other_packages_are_not_followed(tree):
    assert set(closure(["toypkg.deep.sibling"], ["toypkg"])) == {
        "toypkg",
        "toypkg.deep",
        "toypkg.deep.sibling",
    }


@pytest.mark.parametrize("module", ["toypkg.absent", "toyabsent", "toypkg.leaf.absent", ""])
def test_a_module_without_a_file_is_named(tree, module):
    with pytest.raises(ModuleNotFoundError, match=repr(module)):
        closure([module], PACKAGES)


def test_the_module_of_the_run_fn_is_part_of_the_digest(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "user_training.py"
    module.write_text("import user_helper\ndef run_fn(fn_args):\n    return 1\n")
    before = digest(["user_training"])
    assert before == digest(["user_training"])
    module.write_text("import user_helper\ndef run_fn(fn_args):\n    return 2\n")
    assert before != digest(["user_training"])


# A file, and the digests that a change of it changes.
CHANGES = {
    "cmclrec_tf/data/vocabulary.py": {"transform", "trainer", "evaluator", "validator", "card"},
    "cmclrec_tf/evaluation/metrics.py": {"evaluator", "card"},
    "cmclrec_tf/models/cmclrec.py": {"trainer"},
    "serving/export/signatures.py": {"trainer"},
    "serving/c_api/session.py": {"validator"},
    "serving/server/local_server.py": set(),
    "pipeline/preprocessing.py": {"transform"},
    "pipeline/tuner.py": {"trainer"},
    "pipeline/components/anomalies.py": {"gate"},
    "pipeline/components/population.py": {"card"},
    "pipeline/components/serving_checks.py": {"validator"},
    "pipeline/evaluation/ranking_metrics.py": {"evaluator"},
    "pipeline/evaluation/floor_metrics.py": {"evaluator"},
    "pipeline/evaluation/floors.py": {"evaluator", "card"},
    "pipeline/evaluation/plots.py": {"card"},
    "pipeline/commands/run_report.py": set(),
}


# Changes each file, and prints which digests this changes. Runs in a copy of the project.
SCRIPT = """
import dataclasses, json, sys
from pipeline.metadata.code_digests import CodeDigests

def digests():
    return dataclasses.asdict(CodeDigests.current("pipeline.trainer.run_fn"))

changed = {}
for path in json.loads(sys.argv[1]):
    before = digests()
    with open(path, "a") as file:
        file.write("# changed")
    changed[path] = [name for name, digest in digests().items() if digest != before[name]]
assert not {"tensorflow", "tfx"} & set(sys.modules)
print(json.dumps(changed))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """`{file: components}` whose digests a change of the file changes."""
    project = tmp_path_factory.mktemp("project")
    for package in ("cmclrec_tf", "pipeline", "serving"):
        source = pathlib.Path(importlib.util.find_spec(package).origin).parent
        shutil.copytree(source, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", SCRIPT, json.dumps(list(CHANGES))]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_runs_again_the_components_that_it_can_change(changed, path):
    assert set(changed[path]) == CHANGES[path]
