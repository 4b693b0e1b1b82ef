"""The default job, and the same network without rotations, through `main.py` itself."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import table

ROOT = Path(__file__).resolve().parents[1]
LONGEST, LOWEST, MARGIN = 90, 94.0, 2.0
JOBS = {"SE2, partial (python main.py)": [], "T2 (base_group=T2 conv=full)": ["base_group=T2", "conv=full"]}


def run(overrides: list[str]) -> dict[str, float]:
    """Return the summary of one job, run in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "main.py", "wandb.mode=disabled", f"hydra.run.dir={folder}", *overrides]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        summary: dict[str, float] = json.loads((Path(folder) / "summary.json").read_text())
    return summary


def report() -> str:
    """Return the table of both jobs."""
    header = ("digits, full circle", f"training s (at most {LONGEST})", "test accuracy %", "parameters")
    found = {name: run(overrides) for name, overrides in JOBS.items()}
    rows = [
        (name, f"{summary['seconds']:.1f}", f"{100 * summary['test/accuracy']:.2f}", f"{summary['no_params']:,}")
        for name, summary in found.items()
    ]
    title = f"Default job (targets: at least {LOWEST} %, T2 at least {MARGIN} points lower)"
    return table(title, header, rows)
