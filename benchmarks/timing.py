"""Interleaved timing: machines are noisy, so what is compared takes turns, and only ratios are reported."""

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(candidates: Mapping[str, Callable[[], object]], *, no_rounds: int) -> dict[str, float]:
    """Return the median seconds of each candidate over rounds in which every one runs once, after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for index in range(no_rounds + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if index:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> str:
    """Return one line that says what the numbers were measured on, and of which commit."""
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{device}, torch {torch.__version__}, commit {commit}"


def table(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [f"### {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])
