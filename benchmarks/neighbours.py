"""Nearest neighbours of a large training set, in a process of its own: seconds and peak memory."""

import json
import resource
import subprocess
import sys
import time

import torch

from benchmarks.timing import table
from partial_equiv.symmetry import nearest_neighbours

NO_IMAGES, NO_LATENT, NO_NEIGHBOURS = 60_000, 200, 45
THREADS = 2
MOST_SECONDS, MOST_GIB = 60, 2


def measure() -> dict[str, float]:
    """Return wall and processor seconds of one search, and the peak memory of this process in GiB."""
    torch.set_num_threads(THREADS)
    z = torch.randn(NO_IMAGES, NO_LATENT, generator=torch.Generator().manual_seed(0))
    wall, processor = time.perf_counter(), time.process_time()
    nearest_neighbours(z, NO_NEIGHBOURS)
    return {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,  # KiB on Linux
    }


def report() -> str:
    """Return the table."""
    command = [sys.executable, "-m", "benchmarks.neighbours"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    header = (
        "",
        f"seconds (at most {MOST_SECONDS})",
        "processor seconds, both cores",
        f"peak memory, GiB (at most {MOST_GIB})",
    )
    size = f"{NO_IMAGES:,} images, d {NO_LATENT}, k {NO_NEIGHBOURS}, {THREADS} threads"
    row = (size, *(f"{found[key]:.1f}" for key in ("wall", "processor", "peak")))
    return table("Nearest neighbours", header, [row])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure()))
