"""Write the report of a run, or compare many: `python -m partial_equiv.runs.report <run>...`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from partial_equiv.errors import UserError
from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.report.comparison import write_comparison
from partial_equiv.runs.report.record import read_record, run_folders
from partial_equiv.runs.report.single import report_page, write_report

COMPARISON = "comparison.html"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and return the exit code: 0, or 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python -m partial_equiv.runs.report", description=__doc__)
    parser.add_argument("runs", nargs="+", help="run folders, or folders that hold some")
    parser.add_argument("--out", help=f"HTML file; without it report.html in the folder of one run, else {COMPARISON}")
    options = parser.parse_args(argv)
    try:
        sys.stdout.write(f"{_write(options.runs, options.out)}\n")
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _write(given: Sequence[str], out: str | None) -> Path:
    folders = list(dict.fromkeys(folder for path in given for folder in run_folders(path)))
    if len(folders) > 1:
        return write_comparison(folders, out or COMPARISON)
    if out is None:
        return write_report(folders[0])
    write_atomically(Path(out), report_page(read_record(folders[0])).encode())
    return Path(out)


if __name__ == "__main__":
    sys.exit(main())
