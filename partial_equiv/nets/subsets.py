"""What a network learned to keep of its group, layer by layer."""

from typing import NamedTuple

from torch import nn

from partial_equiv.sampling import IntervalSampler, gate_probability, samplers


class LayerSubset(NamedTuple):
    """The learned subset of one layer.

    `level` is the kept share of the circle, turns in [-180, 180] degrees times it (None where no interval is learned);
    `mirror` the probability of the mirrored half (None where there is none); `gates` the probability of each turn of
    a grid, identity first (empty where no grid is learned).
    """

    name: str
    level: float | None
    mirror: float | None
    gates: list[float]


def learned_subsets(model: nn.Module) -> list[LayerSubset]:
    """Return the learned subset of every layer that learns one, in module order."""
    names = {id(module): name.removesuffix(".sampler") for name, module in model.named_modules()}
    found = []
    for sampler in samplers(model):
        if sampler.level is None and sampler.gates is None:
            continue
        gates = [] if sampler.gates is None else gate_probability(sampler.gates).detach().tolist()
        mirror = gates.pop() if sampler.group.mirror else None
        level = None if sampler.level is None else float(sampler.level.detach().clamp(0, 1))
        turns = [] if isinstance(sampler, IntervalSampler) else [1.0, *gates]
        found.append(LayerSubset(names[id(sampler)], level, mirror, turns))
    return found
