"""What the first rank knows and the others take over. Bytes are sent and nothing else: no pickle, no code.

Everything here goes over the CPU, also where training is on CUDA: the process group needs a backend for both.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from partial_equiv.ranks.collectives import no_ranks, rank

State = tuple[dict[str, Tensor], Any]
"""Tensors by name, and facts that JSON can hold."""


def from_first(make: Callable[[], State]) -> State:
    """Return on every rank what `make` returns on the first one, which alone calls it.

    Tensors come with every bit and on the CPU, facts as JSON holds them. On one rank nothing is copied.

    Args:
        make: Reads or computes the state. If it raises, the first process has to end, and with it all others.
    """
    if no_ranks() == 1:
        return make()
    tensors, facts = make() if rank() == 0 else ({}, None)
    outline = {name: [str(x.dtype).removeprefix("torch."), list(x.shape)] for name, x in tensors.items()}
    outline, facts = json.loads(_broadcast_text(json.dumps([outline, facts])))
    found = {}
    for name, (kind, shape) in outline.items():
        empty = torch.empty(shape, dtype=getattr(torch, kind))
        found[name] = tensors[name].detach().cpu().contiguous() if rank() == 0 else empty
        if found[name].numel():
            dist.broadcast(found[name].reshape(-1).view(torch.uint8), src=0)
    return found, facts


def wait_for_first() -> None:
    """Wait until the first rank comes here, too."""
    from_first(lambda: ({}, None))


def summed(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the sum over ranks of each number, in double precision.

    Args:
        numbers: By name; a rank may lack some of the first rank's, which count as 0 there, and has no others.
    """
    if no_ranks() == 1:
        return dict(numbers)
    _, names = from_first(lambda: ({}, list(numbers)))
    assert set(numbers) <= set(names), f"{sorted(set(numbers) - set(names))}: the first rank has none of this name"
    values = torch.tensor([numbers.get(name, 0.0) for name in names], dtype=torch.float64)
    dist.all_reduce(values)
    return dict(zip(names, values.tolist(), strict=True))


def agree_random(device: torch.device) -> None:
    """Give torch's generators of every rank the state of those of the first, so that what is drawn next is one for all.

    Args:
        device: Where this rank computes; beside its generator that of the CPU is set.
    """
    if no_ranks() == 1:
        return
    cuda = device.type == "cuda"

    def states() -> State:
        own = {"cuda": torch.cuda.get_rng_state(device)} if cuda else {}
        return {"cpu": torch.get_rng_state(), **own}, None

    found, _ = from_first(states)
    torch.set_rng_state(found["cpu"])
    if cuda:
        torch.cuda.set_rng_state(found["cuda"], device)


def _broadcast_text(text: str) -> str:
    """Return the first rank's text."""
    own = torch.tensor(list(text.encode()), dtype=torch.uint8)
    length = torch.tensor(len(own))
    dist.broadcast(length, src=0)
    content = own if rank() == 0 else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(content, src=0)
    return bytes(content.tolist()).decode()
