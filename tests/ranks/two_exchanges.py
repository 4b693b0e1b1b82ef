"""What two processes tell one another: `two_exchanges.py rank ranks folder` writes what it found to rank<r>.pt."""

import datetime
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

from partial_equiv.convs import BatchNorm, GroupFeatureMap
from partial_equiv.groups import GROUPS
from partial_equiv.objectives import Step
from partial_equiv.ranks import (
    RankBatchNorm,
    agree,
    agree_random,
    from_first,
    gather,
    joined,
    own_rows,
    parallel,
    rand_rows,
    rank,
    rank_dropout,
    summed,
    without_sync,
)
from partial_equiv.sampling import RandomGridSampler, draw_sets

CPU = torch.device("cpu")
SHARES = (slice(0, 4), slice(4, 7))  # of seven examples


def share(number, ranks):
    """Return which of the seven examples a rank holds."""
    return SHARES[number] if ranks > 1 else slice(None)


def told(number):
    """Return what the first rank knows, asked for by all; the others must not be asked."""

    def make():
        assert number == 0
        tensors = {
            "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
            "flag": torch.tensor(True),
            "none": torch.empty(0, 3),
            "wide": torch.arange(6, dtype=torch.float64).view(2, 3).T,
        }
        return tensors, {"words": "größer", "numbers": [1, 0.1, None]}

    return from_first(make)


def drawn(number):
    """Return what generators that started apart draw once they agree, and where they stand after draws for examples."""
    torch.manual_seed(number)
    agree_random(CPU)
    return {
        "common": torch.rand(3),
        "own": rand_rows(4 - number, device=CPU),
        "sets": draw_sets(RandomGridSampler(group=GROUPS["SE2"], no_samples=4).train(), 4 - number).elements,
        "set": draw_sets(RandomGridSampler(group=GROUPS["SE2"], no_samples=4).train(), None).elements,
        "grid": draw_sets(RandomGridSampler(group=GROUPS["SE2"], no_samples=4).eval(), 4 - number).elements,
        "after": torch.rand(3),
    }


def dropped(number, ranks):
    """Return what dropout leaves of ones, in tensors that lie in memory as their axes say or otherwise."""
    torch.manual_seed(5)
    ones = torch.ones(7, 3, 4, 2, 2)[share(number, ranks)]
    turned = torch.ones(7, 4, 3, 2, 2)[share(number, ranks)].transpose(1, 2)
    kinds = {"plain": (ones, False), "turned": (turned, False), "channels": (ones, True)}
    return {name: rank_dropout(x, 0.5, training=True, whole_channels=whole) for name, (x, whole) in kinds.items()}


class Watched(nn.Module):
    """A toy objective with all that is awkward: dropout, a norm, a parameter that is never used, and heads that watch.

    The heads learn in every other step, and the loss of an example is far from that of the others.
    """

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.4), nn.Linear(6, 3, bias=False))
        self.unused = nn.Linear(2, 2)
        self.heads = nn.Linear(3, 2)
        self.watching = True

    def forward(self, batch):
        """Return the step of (inputs, targets)."""
        inputs, targets = batch
        found = self.net(inputs)
        loss = functional.cross_entropy(found, targets)
        extra = self.heads(found.detach()).square().mean() if self.watching else None
        return Step(loss, {"hits": (found.argmax(dim=-1) == targets).double().mean()}, len(targets), extra)


def learned(number, ranks, accumulate=1):
    """Return what a few steps of plain descent, the heads watching every other one, make of the toy objective."""
    torch.manual_seed(1)
    objective = Watched().double()
    batches = [(torch.randn(7, 5, dtype=torch.float64), torch.randint(3, (7,))) for _ in range(4)]
    mine, steps = share(number, ranks), []
    modules = [type(module) for module in objective.modules()]
    with joined(objective):
        forward = parallel(objective, CPU, objective.heads)
        for index, batch in enumerate(batches):
            objective.watching = index % 2 == 0
            last = (index + 1) % accumulate == 0
            if index % accumulate == 0:
                objective.zero_grad(set_to_none=True)
            if last:
                step = forward([x[mine] for x in batch])
            else:
                with without_sync(forward):
                    step = forward([x[mine] for x in batch])
            (step.loss + (0 if step.extra is None else step.extra)).backward()
            if last:
                with torch.no_grad():
                    for parameter in objective.parameters():
                        if parameter.grad is not None:
                            parameter.sub_(0.3 * parameter.grad)
            extra = [] if step.extra is None else [step.extra.item()]
            steps.append([step.loss.item(), step.metrics["hits"].item(), step.size, *extra])
        idle = objective.unused.weight.grad is None
    return {
        "steps": steps,
        "state": {name: value.clone() for name, value in objective.state_dict().items()},
        "idle": idle,
        "restored": [type(module) for module in objective.modules()] == modules,
        "drawn": torch.rand(2),
    }


def spoiled(number):
    """Return the loss that all see of a batch in which one example of the second rank is not a number."""
    objective = Watched().double()
    inputs = torch.full((2, 5), float("nan") if number else 1.0, dtype=torch.float64)
    with joined(objective):
        return parallel(objective, CPU, None)((inputs, torch.zeros(2, dtype=torch.int64))).loss.item()


def weighted_norm(number, ranks):
    """Return output, gradients and buffers of the norm of feature maps whose elements carry weights."""
    torch.manual_seed(2)
    values = torch.randn(7, 3, 4, 2, 2, dtype=torch.float64)
    weights = torch.rand(7, 4, dtype=torch.float64)
    probe = torch.randn(7, 3, 4, 2, 2, dtype=torch.float64)
    mine = share(number, ranks)
    norm = BatchNorm(3).double()
    own, own_weights = values[mine].requires_grad_(), weights[mine].requires_grad_()
    with joined(norm):
        y = norm(GroupFeatureMap(own, torch.zeros(len(own), 4, 1, dtype=torch.float64), own_weights)).values
    (y * probe[mine]).sum().backward()
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    return {"y": y.detach(), "values": own.grad, "weights": own_weights.grad, **buffers}


def quiet(number):
    """Return what the first rank computes alone with gradients off: nothing is exchanged, or this would hang."""
    if number:
        return None
    with torch.no_grad():
        x = torch.arange(4.0)[:, None]
        norm = RankBatchNorm(1, affine=False).train()
        return {"gathered": gather(x), "normed": norm(x), "rows": tuple(own_rows(4))}


def main(number, ranks, folder):
    """Do all of the above and write it down."""
    address, limit = f"file://{folder / 'rendezvous'}", datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=address, rank=number, world_size=ranks, timeout=limit)
    assert rank() == number
    flags = torch.tensor([number == 0, number == 1, False])
    found = {
        "agreed": (agree(flags), flags),
        "counted": agree(torch.tensor([3 - number, number])),
        "told": told(number),
        "summed": summed({"a": 1.0 + number, "b": 0.5} if number == 0 else {"a": 1.0 + number}),
        "drawn": drawn(number),
        "dropped": dropped(number, ranks),
        "learned": learned(number, ranks),
        "accumulated": learned(number, ranks, accumulate=2),
        "spoiled": spoiled(number),
        "weighted": weighted_norm(number, ranks),
        "quiet": quiet(number),
    }
    torch.save(found, folder / f"rank{number}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
