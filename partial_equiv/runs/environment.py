"""Facts about where a run happened: commit, versions, device."""

import platform
import subprocess
import sys
from pathlib import Path

import torch


def environment_facts() -> dict[str, str]:
    """Return the commit of the source tree and the versions that a number depends on, as flat text.

    Keys: commit ("unknown" outside a git checkout of this library, "-dirty" at its end with local changes), python,
    torch, platform.
    """
    return {
        "commit": commit(Path(__file__)),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
    }


def commit(source: Path) -> str:
    """Return the full hash of the commit that tracks `source`, "-dirty" added for local changes, or "unknown"."""
    # A virtual environment often lies inside some other project's checkout: only a tracked file has a commit.
    if _git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return "unknown"
    described = _git(source.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return described or "unknown"


def device_name(device: torch.device | str) -> str:
    """Return a device in words, for example "cuda: NVIDIA H200" or "cpu: x86_64, 2 threads"."""
    device = torch.device(device)
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu: {platform.machine()}, {torch.get_num_threads()} threads"
    return f"{device.type}: {platform.machine()}"


def peak_memory(device: torch.device | str) -> int | None:
    """Return the most bytes that this process has held, of a CUDA device or else of the machine; None if none tells."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else 1024 * kilobytes  # macOS counts bytes


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
