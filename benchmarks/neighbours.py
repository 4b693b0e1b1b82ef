"""Nearest neighbours of a large training set, in a process of its own: seconds and peak memory."""

import json
import resource
import subprocess
import sys
import time

import torch

from benchmarks.choices import Choices
from benchmarks.machine import ROOT
from benchmarks.results import Goal, Judged, Table
from benchmarks.timing import tell
from partial_equiv.symmetry import nearest_neighbours

NO_IMAGES, NO_LATENT, NO_NEIGHBOURS = 60_000, 200, 45
THREADS = 2
SECONDS = Goal("nearest neighbours, seconds", 60, named=False)
GIB = Goal("nearest neighbours, GiB", 2, named=False)


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


def tables(choices: Choices) -> list[Table]:
    """Return the table; the processor does it, whatever the device."""
    tell("neighbours")
    command = [sys.executable, "-m", "benchmarks.neighbours"]
    found = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)
    header = ("", "seconds", "processor seconds, both cores", "peak memory, GiB")
    size = f"{NO_IMAGES:,} images, d {NO_LATENT}, k {NO_NEIGHBOURS}, {THREADS} threads"
    row = (size, Judged(found["wall"], SECONDS), found["processor"], Judged(found["peak"], GIB))
    return [Table("Nearest neighbours of symmetry inference", header, (row,))]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure()))
