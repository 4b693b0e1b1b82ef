"""Peak memory of a training step above what lay there before it, and of its bare convolutions and norms.

On the CPU each list of requests is measured in a process of its own: the peak of resident memory (VmHWM), set back
before every step through /proc/self/clear_refs, counts what libraries take beside torch's tensors too. There glibc maps
every block from 64 KiB for itself and gives it back when it is freed, so that nothing of an earlier step is reused
unseen. A step on two images comes first: libraries load and optimisers take their state before the count begins.
On a GPU torch counts what it has allotted.

The bare network allots, inside the step, what any network of these convolutions and norms has to: the input of each and
the weights, which our network makes there too; nothing else is kept, and gradients of inputs go as they are used.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.bare import CONVOLUTIONS, NORMS, Call, record
from benchmarks.jobs import Job, make_job, random_batch_like
from benchmarks.machine import ROOT
from benchmarks.timing import tell, wait

MIB = 2**20


@dataclass(frozen=True)
class Request:
    """Which step: that of a job ("step"), or its bare convolutions and norms ("bare"), also with resident weights."""

    kind: str
    overrides: tuple[str, ...]
    batch_size: int


def peaks(requests: Sequence[Request], device: str = "cpu") -> list[float]:
    """Return the MiB of each request."""
    if device == "cuda":
        return [measure(request, device) for request in requests]
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory"],
        cwd=ROOT,
        env=own_environment(),
        input=json.dumps([asdict(request) for request in requests]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    numbers: list[float] = json.loads(found.stdout)
    return numbers


def own_environment() -> dict[str, str]:
    """Return the environment of a process whose peaks are read: its large blocks go back when they are freed."""
    return os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**16)}


def measure(request: Request, device: str) -> float:
    """Return the MiB by which one step rises above what was there."""
    job = make_job(*request.overrides, batch_size=2, device=device)
    run = runner(request.kind, job)
    run()
    run = runner(request.kind, replace(job, batch=random_batch_like(job.batch, request.batch_size)))
    found = rise(run, device) / MIB
    tell(f"memory, {request.kind} {' '.join(request.overrides)}, B {request.batch_size}: {found:.0f} MiB")
    return found


def runner(kind: str, job: Job) -> Callable[[], None]:
    """Return what is measured of a job."""
    if kind == "step":
        return job.step
    calls = record(job.loss, (*CONVOLUTIONS, *NORMS), copies=False)
    return bare_step(calls, job.device, resident=kind == "bare, weights resident")


def bare_step(calls: list[Call], device: torch.device, *, resident: bool) -> Callable[[], None]:
    """Return a function that runs convolutions and norms forward, then backward, with their inputs kept between."""
    anchor = torch.ones(1, device=device, requires_grad=True)
    kept = [weights_of(call, device) for call in calls] if resident else []

    def run() -> None:
        total = anchor.sum()
        for index, call in enumerate(calls):
            values, *others = kept[index] if resident else weights_of(call, device)
            given = values if values is not None else anchor.to(call.args[0].dtype).expand(call.args[0].shape).clone()
            out = call.function(given, *others, **call.kwargs)
            total = total + out.float().sum()  # keeps the graph, not the output
            del given, out, values, others
        total.backward()
        for weights in kept:
            for weight in weights:
                if isinstance(weight, Tensor):
                    weight.grad = None

    return run


def weights_of(call: Call, device: torch.device) -> list[Any]:
    """Return the arguments of a call as tensors of zeros; None for an input that gets a gradient."""
    first, *others = call.args
    images = None if first.requires_grad else torch.zeros_like(first, device=device)
    call.kwargs.update({key: made(entry, device) for key, entry in call.kwargs.items()})
    return [images, *(made(entry, device) for entry in others)]


def made(entry: Any, device: torch.device) -> Any:
    """Return a tensor of the shape of one on the meta device, its pages touched; anything else as it is."""
    if not isinstance(entry, Tensor) or entry.device.type != "meta":
        return entry
    return torch.ones_like(entry, device=device).requires_grad_(entry.requires_grad)


def rise(run: Callable[[], None], device: str) -> float:
    """Return the bytes of the peak of a run above what was there before it."""
    gc.collect()
    if device == "cuda":
        wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        wait()
        return float(torch.cuda.max_memory_allocated() - before)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    run()
    return float(resident("VmHWM") - before)


def resident(entry: str) -> int:
    """Return the bytes of resident memory: VmRSS now, VmHWM at most; `getrusage` would count the starting program."""
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(entry))
    return int(line.split()[1]) * 2**10


def main() -> None:
    """Measure what stdin asks for."""
    asked = [Request(**(entry | {"overrides": tuple(entry["overrides"])})) for entry in json.load(sys.stdin)]
    sys.stdout.write(json.dumps([measure(request, "cpu") for request in asked]))


if __name__ == "__main__":
    main()
