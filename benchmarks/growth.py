"""How time and memory of a training step grow with elements, kernel, batch, pixels and channels: exponents."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from benchmarks.choices import Choices
from benchmarks.factors import IDEAL, plain_step
from benchmarks.goals import GROWTH
from benchmarks.jobs import PUBLISHED, Job, make_job
from benchmarks.memory import Request, peaks
from benchmarks.plain import PlainCKResNet
from benchmarks.results import Cell, Judged, Table
from benchmarks.spread import slope, slopes
from benchmarks.timing import Rounds, interleaved


class Axis(NamedTuple):
    """What grows: its key, its values for every factorisation, and images of a batch."""

    key: str
    values: Mapping[str, Sequence[int]]
    batch_size: int
    pixels: int = 28


def alike(values: Sequence[int]) -> Mapping[str, Sequence[int]]:
    """Return the same values for both factorisations."""
    return {"full": values, "gc": values}


ELEMENTS = "elements N"
SHORT: Mapping[str, Axis] = {
    ELEMENTS: Axis("base_group.no_samples", {"full": (4, 8, 16), "gc": (8, 16, 32), IDEAL: (8, 16, 32)}, 16),
    "kernel k": Axis("kernel.size", {"gc": (3, 5, 7)}, 8),
    "images B": Axis("", {"gc": (8, 16, 32)}, 4),
    "pixels of a side": Axis("dataset.size", {"gc": (28, 40, 56)}, 4),
    "channels C": Axis("net.no_hidden", {"gc": (8, 16, 32)}, 8),
}
WHOLE: Mapping[str, Axis] = {
    ELEMENTS: Axis(
        "base_group.no_samples", {"full": (4, 8, 16, 32), "gc": (8, 12, 16, 24, 32), IDEAL: (8, 12, 16, 24, 32)}, 64
    ),
    "kernel k": Axis("kernel.size", alike((3, 5, 7, 9, 11, 13)), 16, 56),
    "images B": Axis("", alike((8, 16, 32, 64)), 16),
    "pixels of a side": Axis("dataset.size", alike((28, 40, 56, 80)), 16),
    "channels C": Axis("net.no_hidden", alike((8, 16, 32, 64)), 16),
}
"""The published network has N 8, k 7, B 64, 28 pixels and 32 channels."""


def overrides_of(axis: Axis, value: int, factorization: str) -> tuple[str, ...]:
    """Return the choices of one point: the published network, but for one number (and pixels that have room for it)."""
    factors = () if factorization == "full" else (f"conv.factorization={factorization}",)
    pixels = value if axis.key == "dataset.size" else axis.pixels
    images = () if pixels == 28 else ("dataset=MNIST", f"dataset.size={pixels}")  # which comes in any size
    number = (f"{axis.key}={value}",) if axis.key not in ("", "dataset.size") else ()
    return (PUBLISHED, *images, *number, *factors)


def point(axis: Axis, value: int, factorization: str, device: str) -> Callable[[], None]:
    """Return the training step of one point."""
    batch_size = axis.batch_size if axis.key else value
    if factorization != IDEAL:
        return job_of(axis, value, factorization, batch_size, device).step
    assert axis.key == "base_group.no_samples"
    return plain_step(PlainCKResNet(no_elements=value, factors="gc"), job_of(axis, value, "gc", batch_size, device))


def job_of(axis: Axis, value: int, factorization: str, batch_size: int, device: str) -> Job:
    """Return the job of one point."""
    return make_job(*overrides_of(axis, value, factorization), batch_size=batch_size, device=device)


def timed(name: str, axis: Axis, factorization: str, choices: Choices) -> Rounds:
    """Return the rounds over all values of an axis."""
    values = axis.values[factorization]
    steps = {str(value): point(axis, value, factorization, choices.device) for value in values}
    return interleaved(steps, no_rounds=choices.no_rounds, title=f"growth with {name}, {factorization}")


def requests(axes: Mapping[str, Axis]) -> dict[tuple[str, str, int], Request]:
    """Return what is to be known of memory: (axis, factorisation, value) -> request."""
    return {
        (name, factors, value): Request(
            "step", overrides_of(axis, value, factors), axis.batch_size if axis.key else value
        )
        for name, axis in axes.items()
        for factors, values in axis.values.items()
        if factors != IDEAL
        for value in values
    }


def tables(choices: Choices) -> list[Table]:
    """Return the points and the exponents."""
    torch.manual_seed(0)
    axes = WHOLE if choices.full else SHORT
    times = {
        (name, factors): timed(name, axis, factors, choices) for name, axis in axes.items() for factors in axis.values
    }
    asked = requests(axes)
    memory = dict(zip(asked, peaks(list(asked.values()), choices.device), strict=True))
    points: list[tuple[Cell, ...]] = []
    exponents: list[tuple[Cell, ...]] = []
    for (name, factors), rounds in times.items():
        values = axes[name].values[factors]
        mib = [memory.get((name, factors, value)) for value in values]
        points += [
            (name, factors, value, rounds.seconds(str(value)), peak) for value, peak in zip(values, mib, strict=True)
        ]
        exponents.append(exponent(name, factors, axes[name], rounds, [peak for peak in mib if peak is not None]))
    return [
        Table("Growth of a training step: exponents", EXPONENTS, tuple(exponents), (NOTE,)),
        Table("Growth of a training step: points", POINTS, tuple(points), plot="growth"),
    ]


POINTS = ("what grows", "factorization", "value", "seconds", "memory, MiB")
EXPONENTS = ("with", "factorization", "from, to", "exponent of time", "exponent of memory")
NOTE = (
    "The published rotMNIST CKResNet, one number changed at a time. Exponent of time: the slope on logarithmic axes, "
    "fitted in every round, median and quartiles; of memory: one fit, one standard error around it."
)


def exponent(name: str, factors: str, axis: Axis, rounds: Rounds, memory: Sequence[float]) -> tuple[Cell, ...]:
    """Return the row of one fit."""
    values = axis.values[factors]
    per_round = list(zip(*(rounds.of[str(value)] for value in values), strict=True))
    time: Cell = slopes(values, per_round)
    if name == ELEMENTS and factors == "gc":
        time = Judged(slopes(values, per_round), GROWTH)
    title = f"{name}, B {axis.batch_size}" if axis.key else name
    return (title, factors, f"{values[0]}, {values[-1]}", time, slope(values, memory) if memory else None)
