"""Links and paths in the Markdown files lead to files that exist."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)]*))?\)")
# A path in backticks that names a file of this repository, such as `cmclrec_tf/training.py`.
PATH = re.compile(
    r"`((?:cmclrec_tf|pipeline|serving|experiments|tests|benchmarks|docs)/[\w./*-]+)(?:::\w+)?`"
)


def pages():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.split() if (ROOT / path).is_file()]


def anchor(heading):
    """The anchor that a Markdown page gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", pages())
def test_links_and_paths_exist(page):
    path = ROOT / page
    text = path.read_text()
    missing = []
    for target, heading in LINK.findall(text):
        if "://" in target:
            continue
        linked = path.parent / target
        if not linked.exists():
            missing.append(target)
        elif heading:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            if heading not in map(anchor, headings):
                missing.append(f"{target}#{heading}")
    missing += [named for named in PATH.findall(text) if not list(ROOT.glob(named))]
    assert not missing
