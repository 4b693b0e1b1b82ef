"""What was measured on: device, threads, versions, commit and date."""

import datetime
import platform
import re
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def machine(device: str) -> dict[str, str | int]:
    """Return the facts that a number needs beside it."""
    kind = torch.cuda.get_device_name() if device == "cuda" else processor()
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    return {
        "device": kind,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def line(facts: dict[str, str | int]) -> str:
    """Return the facts as one line."""
    return (
        f"{facts['device']}, {facts['threads']} threads, torch {facts['torch']}, "
        f"commit {facts['commit']}, {facts['date']}"
    )


def processor() -> str:
    """Return what the processor calls itself."""
    listed = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", listed.read_text(), re.MULTILINE) if listed.is_file() else None
    return f"{platform.machine()} CPU" + (f" ({found[1].strip()})" if found else "")
