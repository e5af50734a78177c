"""Every benchmark, each in a process of its own, and one table of all.

python -m benchmarks.run [--quick] [name ...]
"""

import argparse
import pathlib
import subprocess
import sys

from benchmarks import performance_table

NAMES = ("startup", "training", "evaluation", "beam", "serving", "losses")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes: proves that it runs")
    parser.add_argument("--out", default="var/bench", help="folder of the figures")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark {sorted(unknown)}: they are {', '.join(NAMES)}")
    out = pathlib.Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    rows, failed = [], []
    for name in given.names or NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        path = out / f"{name}.json"
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(path)]
        command += ["--quick"] if given.quick else []
        with open(out / f"{name}.log", "w") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            failed.append(name)
        else:
            rows += performance_table.read(path)
    text = performance_table.text(rows)
    (out / "table.md").write_text(f"{text}\n")
    print(text)
    if failed:
        sys.exit(f"These failed, see their logs in {out}: {', '.join(failed)}")


if __name__ == "__main__":
    main()
