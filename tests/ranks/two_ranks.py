"""One step of a small network, split in two halves, on any number of processes: `two_ranks.py rank ranks folder`.

Every process sees its share of one fixed batch and writes what it found to rank<r>.pt. Run by test_ranks.py.
"""

import datetime
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from partial_equiv import UserError
from partial_equiv.objectives.split_terms import covariance, info_nce, mse, variance
from partial_equiv.ranks import RankBatchNorm, convert_norms, gather, no_ranks

NO_EXAMPLES, WIDTH = 12, 8


class Small(nn.Module):
    """An encoder with batch norms, a projector for each half, and a predictor."""

    def __init__(self):
        super().__init__()
        convs = (nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 9, WIDTH))
        self.encoder = nn.Sequential(*convs)
        half = WIDTH // 2
        self.inv, self.equi = (
            nn.Sequential(nn.Linear(half, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4, bias=False))
            for _ in range(2)
        )
        self.predictor = nn.Linear(4, 4, bias=False)

    def forward(self, x, y):
        """Return the loss of a method with all terms at once."""
        (xi, xe), (yi, ye) = (
            (self.inv(h[:, : WIDTH // 2]), self.equi(h[:, WIDTH // 2 :])) for h in map(self.encoder, (x, y))
        )
        predicted = self.predictor(xe)
        joint = torch.cat([xi, xe], dim=1), torch.cat([yi, ye], dim=1)
        regular = 3 * variance(*joint) + 2 * variance(predicted) + covariance(*joint)
        return mse(xi, yi) + 0.45 * mse(predicted, ye) + regular + info_nce(predicted, ye, temperature=0.1)


def fixed_case():
    """Return the network and both views [12, 2, 5, 5], the same in every process."""
    torch.manual_seed(3)
    model = Small().double()
    return model, *(torch.randn(NO_EXAMPLES, 2, 5, 5, dtype=torch.float64) for _ in range(2))


def share(x, rank, ranks):
    """Return the rows of one rank, contiguous so that rank order is the order of the batch."""
    return x.chunk(ranks)[rank]


def one_step(model, x, y, ranks):
    """Take one step and return the state after it."""
    convert_norms(model)
    module = nn.parallel.DistributedDataParallel(model) if ranks > 1 else model
    loss = module(x, y)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(0.1 * parameter.grad)
    return {"loss": loss.detach(), **{name: value.clone() for name, value in model.state_dict().items()}}


def ragged_norm(rank, ranks):
    """Return output, input gradient and buffers of a norm whose ranks hold 5 and 7 examples, far from zero."""
    torch.manual_seed(4)
    x = 1e3 + torch.randn(NO_EXAMPLES, 3, 2, dtype=torch.float32)
    weights = torch.randn(NO_EXAMPLES, 3, 2)
    norm = RankBatchNorm(3, momentum=None)
    mine = slice(None) if ranks == 1 else (slice(0, 5), slice(5, 12))[rank]
    own = x[mine].requires_grad_()
    y = norm(own)
    (y * weights[mine]).sum().backward()
    return {"y": y.detach(), "gradient": own.grad, "mean": norm.running_mean, "var": norm.running_var}


def gathered(rank):
    """Return what a gather holds, and the gradient when rank r weighs the example e by r + e."""
    x = torch.full((2, 1), float(rank), requires_grad=True)
    y = gather(x)
    (y[:, 0] * torch.arange(len(y)) * (rank + 1)).sum().backward()
    return {"values": y.detach(), "gradient": x.grad}


def refusal(rank):
    """Return what a gather of unequal shares says, and what a norm of an own class says."""
    said = []
    foreign = type("Foreign", (nn.BatchNorm1d,), {})
    for act in (lambda: gather(torch.zeros(2 + rank, 1)), lambda: convert_norms(nn.Sequential(foreign(3)))):
        try:
            act()
        except UserError as error:
            said.append(str(error))
    return said


def half_precision(rank):
    """Return the type and the spread of what a norm makes of bfloat16 under autocast, and of evaluation."""
    norm = RankBatchNorm(2)
    x = (100 + torch.randn(64, 2) + rank).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
    both = gather(y.float())
    norm.eval()
    return {"dtype": y.dtype, "mean": both.mean(0), "std": both.std(0), "evaluated": norm(x) if rank == 0 else None}


def main(rank, ranks, folder):
    """Do all of the above and write it down."""
    address = f"file://{folder / 'rendezvous'}"
    limit = datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks, timeout=limit)
    assert no_ranks() == ranks
    model, *views = fixed_case()
    found = {
        "step": one_step(model, *(share(view, rank, ranks) for view in views), ranks),
        "norm": ragged_norm(rank, ranks),
        "gathered": gathered(rank),
        "refusal": refusal(rank),
        "half": half_precision(rank),
    }
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
