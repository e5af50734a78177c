"""Prints which advisories of advisories.yaml apply to the locked packages: `make audit`.

The list is kept by hand. A complete scan needs an advisory database on the network:
`pip-audit --disable-pip --no-deps -r requirements.lock`.
"""

import pathlib
import re
import sys

import yaml
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-glibc236.lock")


def applies(version, fixed, since="0"):
    """Returns whether a version has a fault that came with one version and is fixed from others on.

    With several fixed versions, each is the first of its line that has no fault, and all versions
    from the last one on have none.
    """
    version, fixed = Version(version), sorted(map(Version, fixed))
    if version < Version(since) or version >= fixed[-1]:
        return False
    return not any(version >= first and version.release[:2] == first.release[:2] for first in fixed)


def locked(text):
    """Returns {package: version} of a lock."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def rows():
    """Returns a Markdown row for each advisory, with the locks it applies to."""
    versions = {name: locked((ROOT / name).read_text()) for name in LOCKS}
    for advisory in yaml.safe_load((ROOT / "tests" / "advisories.yaml").read_text()):
        package = advisory["package"]
        cells = [
            f"**{version}**"
            if applies(version, advisory["fixed"], advisory.get("since", "0"))
            else version
            for version in (versions[name][package] for name in LOCKS)
        ]
        text = f"{package}: {advisory['fault']}"
        yield f"| {advisory['id']} | {text} | {' | '.join(cells)} | {advisory['here']} |"


def main():
    print("| advisory | fault | newest | older | does it matter here? |")
    print("|---|---|---|---|---|")
    for row in rows():
        print(row)


if __name__ == "__main__":
    sys.exit(main())
