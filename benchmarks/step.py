"""Where the time of the published training step goes: bare convolutions, the plain network, ours, and its parts."""

import re

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.bare import record, train_bare
from benchmarks.choices import Choices
from benchmarks.factors import plain_step, published
from benchmarks.goals import STEP
from benchmarks.jobs import Job
from benchmarks.plain import PlainCKResNet
from benchmarks.results import Cell, Judged, Table
from benchmarks.timing import interleaved, wait

BATCH, NO_SAMPLES = 64, 8
PARTS = (
    ("convolutions", r"conv"),
    ("norms", r"norm"),
    ("pools", r"pool"),
    ("products of matrices (kernels, head)", r"mm$|linear|matmul"),
    ("sines of kernels", r"sin|cos"),
    ("optimiser", r"adam|sgd|lars"),
    ("copies", r"copy|clone|contiguous|cat|index|transpose"),
)
"""Parts of a step by the names of torch's operators, the first that fits."""


def part_of(name: str) -> str:
    """Return the part of a step that an operator belongs to."""
    lower = name.lower()
    return next((part for part, pattern in PARTS if re.search(pattern, lower)), "everything else")


def shares(job: Job) -> dict[str, float]:
    """Return the share of each part in one step, in percent of the time inside operators."""
    job.step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if job.device.type == "cuda" else [])]
    with profile(activities=activities) as record_of:
        job.step()
        wait()
    seconds: dict[str, float] = {}
    for event in record_of.key_averages():
        own = event.self_device_time_total if job.device.type == "cuda" else event.self_cpu_time_total
        seconds[part_of(event.key)] = seconds.get(part_of(event.key), 0.0) + own
    total = sum(seconds.values())
    return {name: 100 * value / total for name, value in seconds.items()}


def tables(choices: Choices) -> list[Table]:
    """Return the table of steps, and that of their parts."""
    torch.manual_seed(0)
    steps: list[tuple[Cell, ...]] = []
    parts: dict[str, dict[str, float]] = {}
    for factorization in ("full", "gc"):
        job = published(NO_SAMPLES, factorization, BATCH, choices.device)
        twin = PlainCKResNet(no_elements=NO_SAMPLES, factors=factorization)
        candidates = {
            "bare convolutions": train_bare(record(job.loss)),
            "plain network with Adam": plain_step(twin, job),
            "our training step": job.step,
        }
        rounds = interleaved(candidates, no_rounds=choices.no_rounds, title=f"step, {factorization}")
        for name in candidates:
            ratio = rounds.ratio(name, "bare convolutions")
            judged = factorization == "full" and name == "our training step"
            steps.append(
                (f"{factorization}: {name}", rounds.seconds(name).median, Judged(ratio, STEP) if judged else ratio)
            )
        parts[factorization] = shares(job)
    names = sorted({name for found in parts.values() for name in found}, key=lambda name: -parts["full"].get(name, 0))
    size = f"published rotMNIST CKResNet, SE2, N {NO_SAMPLES}, partial, B {BATCH}"
    share_rows = tuple((name, parts["full"].get(name, 0.0), parts["gc"].get(name, 0.0)) for name in names)
    return [
        Table(f"Training step of the {size}", ("", "seconds", "over bare"), tuple(steps), plot="bars"),
        Table("Parts of that step", ("time inside torch's operators, %", "full", "gc"), share_rows),
    ]
