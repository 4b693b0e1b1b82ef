"""One Markdown row per configuration, over its seeds: `python -m partial_equiv.runs.table <run>...`."""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence

from partial_equiv.errors import UserError
from partial_equiv.runs.reading import FinishedRun, labels, open_run

APART = (
    *("seed", "comment", "device", "no_workers", "compile", "cuda_visible_devices"),
    *("resume", "skip_finished", "tensorboard", "verbose", "wandb", "hydra"),
)
"""Keys in which runs of one row may differ."""
CLASSIFIERS = ("test accuracy %", "levels per layer", "mirror per layer")
"""Columns of classifiers between the seeds and the parameters."""
ENCODERS: dict[str, tuple[str, ...]] = {
    "top-1 % all / inv / equi": tuple(f"classification/{part}/linear/top1" for part in ("all", "inv", "equi")),
    "rotation R2": tuple(f"rotation/{part}/deep/quaternion/r2" for part in ("all", "inv", "equi")),
    "flat": tuple(f"rotation/{part}/deep/quaternion/r2_flat" for part in ("all", "inv", "equi")),
    "median degrees": tuple(f"rotation/{part}/deep/quaternion/degrees_median" for part in ("all", "inv", "equi")),
    "colour R2": tuple(f"color/{part}/deep/r2" for part in ("all", "inv", "equi")),
    "MRR": ("retrieval/test/mrr",),
    "H@1": ("retrieval/test/hit_1",),
    "H@5": ("retrieval/test/hit_5",),
    "PRE": ("prediction_error/test/pre",),
}
"""Columns of encoders, all of the heads that the paper takes for the question."""


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
    kinds = {_kind(run) for run in runs}
    if len(kinds) > 1:
        raise UserError("these runs are classifiers and encoders, which share no column: give the runs of one kind")
    own = CLASSIFIERS if kinds == {"classifier"} else tuple(ENCODERS)
    header = ("run", "seeds", *own, "parameters", "minutes", "commit")
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_row(name, group)) + " |" for name, group in zip(names, groups, strict=True)]
    return "\n".join(lines) + "\n"


def _kind(run: FinishedRun) -> str:
    """Return whether a run trained a classifier or an encoder.

    Raises:
        UserError: it is neither, or nothing was measured.
    """
    if "test/accuracy" in run.summary:
        return "classifier"
    if any(f"test/{key}" in run.summary for keys in ENCODERS.values() for key in keys):
        return "encoder"
    raise UserError(f"{run.path} holds neither a test accuracy nor an evaluation of an encoder: leave it out")


def _row(name: str, group: Sequence[FinishedRun]) -> tuple[str, ...]:
    if _kind(group[0]) == "classifier":
        accuracy = _over_seeds([float(run.summary["test/accuracy"]) for run in group], 100)
        own: tuple[str, ...] = (accuracy, _lists(group, "levels"), _lists(group, "mirror"))
    else:
        own = tuple(" / ".join(_score(group, key) for key in keys) for keys in ENCODERS.values())
    return (
        name,
        ", ".join(str(run.config["seed"]) for run in group),
        *own,
        f"{group[0].summary['no_params']:,}",
        ", ".join(f"{run.summary['seconds'] / 60:.1f}" for run in group),
        ", ".join(sorted({str(run.summary["commit"])[:7] for run in group})),
    )


def _score(group: Sequence[FinishedRun], key: str) -> str:
    """Return a number of an evaluation over seeds, "-" where it was not measured."""
    found = [run.summary[f"test/{key}"] for run in group if run.summary.get(f"test/{key}") is not None]
    return _over_seeds(found, 100 if key.endswith("top1") else 1) if found else "-"


def _over_seeds(values: Sequence[float], factor: int) -> str:
    """Return the mean, with the deviation where there are several."""
    spread = f" ± {factor * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{factor * statistics.mean(values):.2f}{spread}"


def _lists(group: Sequence[FinishedRun], key: str) -> str:
    """Return a list per run, "-" where nothing of the kind was learned."""
    found = [[value for value in run.summary.get(key) or [] if value is not None] for run in group]
    return "; ".join(" ".join(f"{value:.2f}" for value in values) for values in found if values) or "-"


if __name__ == "__main__":
    sys.exit(main())
