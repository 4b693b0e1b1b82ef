"""One Markdown row per configuration, over its seeds: `python -m partial_equiv.runs.table <run>...`."""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence

from partial_equiv.errors import UserError
from partial_equiv.runs.reading import FinishedRun, labels, open_run

APART = ("seed", "comment", "device", "no_workers", "cuda_visible_devices", "wandb", "resume", "hydra")
"""Keys in which runs of one row may differ."""
HEADER = ("run", "seeds", "test accuracy %", "levels per layer", "mirror per layer", "parameters", "minutes", "commit")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code: 0, or 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python -m partial_equiv.runs.table", description=__doc__)
    parser.add_argument("runs", nargs="+", help="run folders")
    try:
        text = table([open_run(path) for path in parser.parse_args(argv).runs])
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    sys.stdout.write(text)
    return 0


def table(runs: Sequence[FinishedRun]) -> str:
    """Return the table as Markdown: mean and standard deviation where a row has several seeds, every seed's levels."""
    rows: dict[str, list[FinishedRun]] = {}
    for run in runs:
        settings = {key: value for key, value in run.config.items() if key not in APART}
        rows.setdefault(json.dumps(settings, sort_keys=True), []).append(run)
    groups = list(rows.values())
    names = labels([group[0] for group in groups])
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(_row(name, group)) + " |" for name, group in zip(names, groups, strict=True)]
    return "\n".join(lines) + "\n"


def _row(name: str, group: Sequence[FinishedRun]) -> tuple[str, ...]:
    accuracies = [100 * float(run.summary["test/accuracy"]) for run in group]
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(group) > 1 else ""
    return (
        name,
        ", ".join(str(run.config["seed"]) for run in group),
        f"{statistics.mean(accuracies):.2f}{spread}",
        _lists(group, "levels"),
        _lists(group, "mirror"),
        f"{group[0].summary['no_params']:,}",
        ", ".join(f"{run.summary['seconds'] / 60:.1f}" for run in group),
        ", ".join(sorted({str(run.summary["commit"])[:7] for run in group})),
    )


def _lists(group: Sequence[FinishedRun], key: str) -> str:
    """Return a list per run, "-" where nothing of the kind was learned."""
    found = [[value for value in run.summary.get(key) or [] if value is not None] for run in group]
    return "; ".join(" ".join(f"{value:.2f}" for value in values) for values in found if values) or "-"


if __name__ == "__main__":
    sys.exit(main())
