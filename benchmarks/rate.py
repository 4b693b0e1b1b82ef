"""Which part of the device's own rate of convolutions a training step reaches."""

from typing import Any

import torch
from torch.nn import functional

from benchmarks.bare import Call, flops, record, train_bare
from benchmarks.choices import Choices
from benchmarks.factors import published
from benchmarks.results import Cell, Table
from benchmarks.timing import interleaved

WIDTH, SIDE = 256, 56
BATCHES = {"cpu": 4, "cuda": 256}
SMALL, PUBLISHED_BATCH = 8, 64


def dense(device: str, precision: str) -> Call:
    """Return a large dense convolution of 3x3 in the layout that the device likes best: its own rate."""
    kind: dict[str, Any] = {"dtype": torch.bfloat16 if precision == "bfloat16" else torch.float32, "device": device}
    x = torch.randn(BATCHES[device], WIDTH, SIDE, SIDE, **kind)
    weight = torch.randn(WIDTH, WIDTH, 3, 3, **kind)
    x, weight = (t.to(memory_format=torch.channels_last).requires_grad_() for t in (x, weight))
    return Call(functional.conv2d, (x, weight), {"padding": 1}, x.shape)


def tables(choices: Choices) -> list[Table]:
    """Return the table for full and gc."""
    batch_size = PUBLISHED_BATCH if choices.full or choices.device == "cuda" else SMALL
    rows: list[tuple[Cell, ...]] = []
    for precision in choices.precisions:
        large = [dense(choices.device, precision)]
        for factorization in ("full", "gc"):
            job = published(8, factorization, batch_size, choices.device, precision)
            calls = record(job.loss)
            title = f"{factorization}, N 8, B {batch_size}, {precision}"
            runs = {"step": job.step, "bare": train_bare(calls), "large": train_bare(large)}
            rounds = interleaved(runs, no_rounds=choices.no_rounds, title=f"rate, {title}")
            work, most = flops(calls), flops(large)
            tera = {
                name: count / rounds.seconds(name).median / 1e12
                for name, count in (("step", work), ("bare", work), ("large", most))
            }
            rows.append(
                (
                    title,
                    tera["step"],
                    tera["bare"],
                    tera["large"],
                    rounds.ratio("bare", "step"),
                    tera["step"] / tera["large"],
                )
            )
    header = (
        "training step of the published rotMNIST CKResNet",
        "its convolutions, TFLOP/s",
        "the same convolutions bare, TFLOP/s",
        f"a dense 3x3 convolution of {WIDTH} channels, TFLOP/s",
        "share of the bare convolutions",
        "share of the dense one",
    )
    note = (
        "A step is credited with the multiplications and additions of its convolutions alone, forward and for every "
        "gradient, at the time of the whole step."
    )
    return [Table("Share of the device's own rate of convolutions", header, tuple(rows), (note,))]
