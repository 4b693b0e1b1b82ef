"""Measure speed and memory: `python -m benchmarks [name ..] [--device cuda] [--full] [--rounds 7] [--out FOLDER]`.

Without names it measures what takes under ten minutes on two cores, with --full everything. Tables go to stdout as
Markdown, progress to stderr, and JSON, Markdown and PNG to a folder.
"""

import argparse
import datetime
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import (
    audit,
    compiled,
    conv,
    default_job,
    epochs,
    factors,
    growth,
    loading,
    neighbours,
    networks,
    peers,
    rate,
    report,
    rotmnist,
    saving,
    split,
    step,
)
from benchmarks.choices import Choices
from benchmarks.machine import ROOT, line, machine
from benchmarks.results import Table, goals_table
from benchmarks.timing import tell, timed
from partial_equiv import UserError

Benchmark = Callable[[Choices], list[Table]]
SHORT: dict[str, Benchmark] = {
    "conv": conv.tables,
    "plain": factors.plain_tables,
    "factors": factors.tables,
    "growth": growth.tables,
    "peers": peers.tables,
    "memory": networks.memory_tables,
    "networks": networks.tables,
    "compile": compiled.tables,
    "epochs": epochs.tables,
}
MORE: dict[str, Benchmark] = {
    "step": step.tables,
    "rate": rate.tables,
    "loading": loading.tables,
    "default_job": default_job.tables,
    "audit": audit.tables,
    "neighbours": neighbours.tables,
    "split": split.tables,
    "saving": saving.tables,
}
BY_NAME: dict[str, Benchmark] = {"rotmnist": rotmnist.tables}
"""What runs by its name alone: hours on a CPU."""
BENCHMARKS = SHORT | MORE | BY_NAME


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    found.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(BENCHMARKS)}; none: {', '.join(SHORT)}")
    found.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    found.add_argument("--full", action="store_true", help="the whole tables, at the published sizes")
    found.add_argument("--rounds", type=int, default=7, help="rounds whose median is taken")
    found.add_argument("--out", type=Path, help="folder of the results; outputs/benchmarks/<date and time> without it")
    found.add_argument("--page", type=Path, help="page whose tables are replaced too, such as BENCHMARKS.md")
    found.add_argument("--epochs", type=int, help="rotmnist: epochs instead of the published 300")
    found.add_argument("--set", nargs="*", default=[], metavar="key=value", help="rotmnist: further choices of the run")
    return found


def chosen(options: argparse.Namespace) -> list[str]:
    """Return the names of what is measured.

    Raises:
        UserError: an unknown name, a number of rounds below 1, or a device that is not there.
    """
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        raise UserError(f"unknown benchmark {', '.join(unknown)}: give {', '.join(BENCHMARKS)}")
    if options.rounds < 1:
        raise UserError(f"--rounds {options.rounds} measures nothing: give 1 or more, 7 for numbers to keep")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here, take --device cpu")
    return options.names or list(SHORT | (MORE if options.full or options.device == "cuda" else {}))


def run(names: Sequence[str], choices: Choices, options: argparse.Namespace, command: str) -> dict[str, list[Table]]:
    """Measure one after the other, write after each, and return all tables."""
    facts = machine(choices.device)
    now = datetime.datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
    folder = options.out or ROOT / "outputs" / "benchmarks" / now
    sys.stdout.write(f"{line(facts)}\n\n")
    found: dict[str, list[Table]] = {}
    for name in names:
        seconds = timed(lambda name=name: found.update({name: BENCHMARKS[name](choices)}))  # type: ignore[misc]
        tell(f"{name}: {seconds:.0f} s in all")
        sys.stdout.write("\n".join(table.markdown() for table in found[name]) + "\n")
        sys.stdout.flush()
        report.write(folder, found, facts, command)
        if options.page is not None:
            # Tables of a GPU stand beside those of the CPU.
            blocks = {name + ("-cuda" if choices.device == "cuda" else ""): tables for name, tables in found.items()}
            report.update_page(options.page, blocks, facts, command)
    goals = goals_table((table, str(facts["commit"])) for tables in found.values() for table in tables)
    if goals.rows:
        sys.stdout.write(f"{goals.markdown()}\n")
    tell(f"results in {folder}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that were named, or all; a mistake becomes one line on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    choices = Choices(
        device=options.device,
        full=options.full or options.device == "cuda",
        no_rounds=options.rounds,
        epochs=options.epochs,
        overrides=tuple(options.set),
    )
    try:
        run(chosen(options), choices, options, shlex.join(["python", "-m", "benchmarks", *given]))
    except UserError as error:
        tell(f"error: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
