"""The audit of torchvision networks: seconds, and how many plain passes in float64 they are worth."""

import functools
import resource

import torch
import torchvision

from benchmarks.choices import Choices
from benchmarks.results import Cell, Goal, Judged, Table
from benchmarks.timing import interleaved
from partial_equiv.audit import audit, check_exactness

BATCH, SIZE = 8, 224
PLAN, AUDIT = Goal("plan of ResNet-50, seconds", 2, named=False), Goal("audit of ResNet-18, seconds", 30, named=False)


@torch.no_grad()
def forward(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return a plain pass."""
    output: torch.Tensor = model(x)
    return output


def tables(choices: Choices) -> list[Table]:
    """Return the table."""
    torch.manual_seed(0)
    plain = torchvision.models.resnet18().eval()
    precise = torchvision.models.resnet18().eval().double()
    x = torch.randn(BATCH, 3, SIZE, SIZE)
    wide = torchvision.models.resnet50()
    rounds = interleaved(
        {
            "plan": functools.partial(check_exactness, wide, SIZE, "C4"),
            "forward": functools.partial(forward, precise, x.double()),
            "audit": functools.partial(audit, plain, x, "C4"),
        },
        no_rounds=choices.no_rounds,
        title="audit",
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    rows: tuple[tuple[Cell, ...], ...] = (
        (f"plan of ResNet-50 at {SIZE}", Judged(rounds.seconds("plan"), PLAN), None),
        (f"one pass of ResNet-18, float64, batch {BATCH}", rounds.seconds("forward"), 1.0),
        (
            f"audit of ResNet-18 at {SIZE}, batch {BATCH}, C4",
            Judged(rounds.seconds("audit"), AUDIT),
            rounds.ratio("audit", "forward"),
        ),
    )
    note = f"Peak memory of the process {peak:.1f} GiB."
    return [Table("Audit", ("", "seconds", "over one pass"), rows, (note,))]
