"""Runs every benchmark, each in its own process, and writes one table of all results.

python -m benchmarks.run [--quick] [name ...]
"""

import argparse
import pathlib
import subprocess
import sys

from benchmarks import performance_table

# Name of each benchmark: its module.
MODULES = {
    "startup": "startup",
    "training": "training_speed",
    "evaluation": "evaluation_speed",
    "beam": "beam",
    "serving": "serving",
    "losses": "losses",
    "gpu": "gpu",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", help=f"Benchmarks to run: {', '.join(MODULES)}. By default all."
    )
    parser.add_argument(
        "--quick", action="store_true", help="Use small sizes, which prove that everything runs."
    )
    parser.add_argument("--out", default="var/bench", help="Folder for the table and the figures.")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(MODULES):
        parser.error(f"no benchmark {sorted(unknown)}: choose from {', '.join(MODULES)}")
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    rows, failures = [], []
    for name in arguments.names or MODULES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        path = out / f"{name}.json"
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", f"benchmarks.{MODULES[name]}", "--out", str(path)]
        command += ["--quick"] if arguments.quick else []
        with open(out / f"{name}.log", "w") as log:
            process = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        if process.returncode:
            failures.append(name)
        else:
            rows += performance_table.read(path)
    text = performance_table.text(rows)
    (out / "table.md").write_text(f"{text}\n")
    print(text)
    if failures:
        sys.exit(f"These benchmarks failed, see their logs in {out}: {', '.join(failures)}")


if __name__ == "__main__":
    main()
