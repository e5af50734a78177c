"""Checks the words of the project's prose and names: `python tests/prose.py`, part of `make lint`.

Prose is Markdown, comments, docstrings and messages. Each entry of WORDS is a pattern that reads as
translated, with what to write in its place; NAMES are participles that do not say what a value is.
"""

import io
import pathlib
import re
import subprocess
import sys
import tokenize

ROOT = pathlib.Path(__file__).parents[1]

WORDS = {
    r"[m]end(s|ed|ing)?": "fix",
    r"[t]old|tells?|telling": "report, return, say or log",
    r"[a]new": "again",
    r"beside": "next to, or with",
    r"whoever|whosoever|of whom": "name the subject",
    r"goes on|go on|going on|went on": "continue, resume",
    r"(warm|cold) ways?": "warm path, cold path",
    r"\w+ for everybody|lists of everybody": "lists for all users",
    r"by lot": "at random",
    r"thereof|thereby|wherein|hitherto|henceforth": "a plain word",
    r"rooms?": "package or folder",
}
NAMES = re.compile(r"found|[t]old|said|asked|given|own|drawn|wanted")

# Files in which a word of the list has its own meaning.
ALLOWED = {"WORKSPACE.md": {"rooms?"}, "CHANGELOG.md": {"rooms?"}}
SKIPPED = {"tests/prose.py", "LICENSE"}


def files():
    """Paths of the Markdown and Python files that git tracks, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [path for path in listed.stdout.split() if (ROOT / path).is_file()]
    return [path for path in paths if path not in SKIPPED]


def prose(path):
    """Yields (line number, text): all lines of Markdown, comments and strings of code."""
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from enumerate(token.string.splitlines(), token.start[0])


def names(path):
    """Yields (line number, name) of every name in a file of code."""
    for token in tokenize.generate_tokens(io.StringIO((ROOT / path).read_text()).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def faults(path):
    """Yields one line for each word or name that the lists above rule out."""
    patterns = {
        re.compile(rf"(?<![\w`./-])(?:{word})(?![\w`./-])", re.IGNORECASE): fix
        for word, fix in WORDS.items()
        if word not in ALLOWED.get(path, ())
    }
    for number, line in prose(path):
        for pattern, fix in patterns.items():
            if match := pattern.search(line):
                yield f"{path}:{number}: {match[0]!r} in prose; write: {fix}"
    if path.endswith(".py") and not path.startswith("tests/"):
        for number, name in names(path):
            if NAMES.fullmatch(name):
                yield f"{path}:{number}: name {name!r}; name the thing that it holds"


def main():
    """Prints every fault; exits with 1 if there is one. Arguments: paths, by default all files."""
    lines = [line for path in sys.argv[1:] or files() for line in faults(path)]
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{len(lines)} faults of wording", file=sys.stderr)
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
