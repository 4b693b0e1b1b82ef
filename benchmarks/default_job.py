"""The default job, and the same network without rotations, through `main.py` itself."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.choices import Choices
from benchmarks.machine import ROOT
from benchmarks.results import Cell, Goal, Judged, Table
from benchmarks.timing import tell

LONGEST = Goal("training of the default job, seconds", 90, named=False)
LOWEST = Goal("test accuracy of the default job, percent", 94, "at least", named=False)
MARGIN = 2.0
JOBS = {"SE2, partial (python main.py)": [], "T2 (base_group=T2 conv=full)": ["base_group=T2", "conv=full"]}


def run(overrides: list[str]) -> dict[str, float]:
    """Return the summary of one job, run in a folder that is thrown away."""
    tell(f"default job: python main.py {' '.join(overrides)}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "main.py", "wandb.mode=disabled", f"hydra.run.dir={folder}", *overrides]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        summary: dict[str, float] = json.loads((Path(folder) / "summary.json").read_text())
    return summary


def tables(choices: Choices) -> list[Table]:
    """Return the table of both jobs."""
    found = {name: run([*overrides, f"device={choices.device}"]) for name, overrides in JOBS.items()}
    accuracies = [100 * summary["test/accuracy"] for summary in found.values()]
    rows: list[tuple[Cell, ...]] = []
    for index, (name, summary) in enumerate(found.items()):
        judged = index == 0 and choices.device == "cpu"
        rows.append(
            (
                name,
                Judged(summary["seconds"], LONGEST) if judged else summary["seconds"],
                Judged(accuracies[0], LOWEST) if index == 0 else accuracies[index],
                int(summary["no_params"]),
            )
        )
    header = ("digits, full circle", "training, s", "test accuracy, %", "parameters")
    gap = accuracies[0] - accuracies[1]
    note = f"The network without rotations is {gap:.2f} points lower (at least {MARGIN})."
    return [Table("Default job", header, tuple(rows), (note,))]
