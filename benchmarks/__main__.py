"""Print every benchmark as Markdown, or those that are named: `python -m benchmarks [name ..] [--rounds 15]`."""

import argparse
import sys
from collections.abc import Callable

from benchmarks import audit, conv, default_job, neighbours, split, step
from benchmarks.timing import machine


def main() -> None:
    """Run the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = "conv, step, default_job, audit, neighbours, split"
    parser.add_argument("names", nargs="*", metavar="name", help=f"{names}; none means all")
    parser.add_argument("--rounds", type=int, default=15, help="rounds whose median is taken")
    options = parser.parse_args()
    reports: dict[str, Callable[[], str]] = {
        "conv": lambda: conv.report(options.rounds),
        "step": lambda: step.report(options.rounds),
        "default_job": default_job.report,
        "audit": lambda: audit.report(options.rounds),
        "neighbours": neighbours.report,
        "split": lambda: split.report(options.rounds),
    }
    unknown = set(options.names) - set(reports)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}: give {', '.join(reports)}")
    sys.stdout.write(f"{machine()}\n\n")
    for name in options.names or reports:
        sys.stdout.write(f"{reports[name]()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
