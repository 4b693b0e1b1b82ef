"""The audit of torchvision networks: seconds, and how many plain passes in float64 they are worth."""

import functools
import resource

import torch
import torchvision

from benchmarks.timing import interleaved, table
from partial_equiv.audit import audit, check_exactness

BATCH, SIZE = 8, 224
MOST_PLAN, MOST_AUDIT = 2, 30


@torch.no_grad()
def forward(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return a plain pass."""
    output: torch.Tensor = model(x)
    return output


def report(no_rounds: int) -> str:
    """Return the table."""
    torch.manual_seed(0)
    plain = torchvision.models.resnet18().eval()
    precise = torchvision.models.resnet18().eval().double()
    x = torch.randn(BATCH, 3, SIZE, SIZE)
    wide = torchvision.models.resnet50()
    seconds = interleaved(
        {
            "plan": functools.partial(check_exactness, wide, SIZE, "C4"),
            "forward": functools.partial(forward, precise, x.double()),
            "audit": functools.partial(audit, plain, x, "C4"),
        },
        no_rounds=no_rounds,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    rows = [
        (f"plan of ResNet-50 at {SIZE} (at most {MOST_PLAN} s)", f"{seconds['plan']:.2f}", "-"),
        (f"one pass of ResNet-18, float64, batch {BATCH}", f"{seconds['forward']:.2f}", "1.0"),
        (
            f"audit of ResNet-18 at {SIZE}, batch {BATCH}, C4 (at most {MOST_AUDIT} s)",
            f"{seconds['audit']:.2f}",
            f"{seconds['audit'] / seconds['forward']:.1f}",
        ),
    ]
    return table(f"Audit (peak memory of the process {peak:.1f} GiB)", ("", "seconds", "over one pass"), rows)
