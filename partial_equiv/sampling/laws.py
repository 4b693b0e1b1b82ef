"""The laws of the samples: pure functions of a level, a number of sets and random numbers.

Axes: S sample sets, n rotations, `...` any leading axes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Sample(NamedTuple):
    """Group elements drawn for a layer.

    Args:
        closure: Order of the symmetries of the pixel grid that are known to map the set onto itself from the left: 1
            for none but the identity, 4 for quarter turns, 8 for flips too. It says how the elements are ordered, as
            `Group.grid` does, so who replaces the elements has to reset it.
    Shape:
        elements [S, G, d]; weights [S, G] in [0, 1], None where every element counts fully.
    """

    elements: Tensor
    weights: Tensor | None = None
    closure: int = 1


def uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return uniform random numbers in [0, 1), drawn where the generator lives, as `like` in dtype and device."""
    device = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


def interval_angles(level: Tensor, no_rotations: int, offset: Tensor) -> Tensor:
    """Return turns spread evenly over [-pi level, pi level], differentiable in the level.

    r_i = pi level (-1 + 2 (i + u) / n),  so  d r_i / d level = r_i / level: the spread follows the level, not only
    the ends.
    All n turns are kept at every level; at level 0 they are all the identity.

    Args:
        level: Share of the circle, in [0, 1], shape [] or [S, 1].
        no_rotations: n.
        offset: u in [0, 1), one for a whole set: [S, 1].
    Shape:
        -> [S, n], radians.
    Source: Romero & Lohit 2022, section 3. Differs: their spread was cut off from the gradient, and their n fell with
        the level.
    """
    steps = torch.arange(no_rotations, dtype=offset.dtype, device=offset.device)
    return math.pi * level * (-1 + 2 * (steps + offset) / no_rotations)


def published_count(level: Tensor, no_rotations: int) -> int:
    """Return the predecessor's number of turns at a level: ceil(n level), at least 1. Waits for the device."""
    return min(max(math.ceil(no_rotations * float(level.detach())), 1), no_rotations)


def temperature(progress: Tensor, initial: float, final: float) -> Tensor:
    """Return the gate temperature after a share `progress` of the training: linear from `initial` to `final`."""
    return initial + (final - initial) * progress.clamp(0, 1)


def gate_probability(logits: Tensor) -> Tensor:
    """Return the probability that a gate is open, sigmoid(2 p); the start p = 1 gives 0.88."""
    return torch.sigmoid(2 * logits)


def relaxed_gates(logits: Tensor, noise: Tensor, heat: Tensor) -> Tensor:
    """Return gates that are 0 or 1 forward and follow a relaxed Bernoulli backward (straight-through).

    z = sigmoid((logit P + logit u) / T), gate = 1[z > 1/2] with the gradient of z; P(gate = 1) = sigmoid(2 p) at any T.

    Args:
        logits: p, with P = sigmoid(2 p), [n].
        noise: u uniform in [0, 1), [S, n].
        heat: Temperature T > 0, [].
    Source: Maddison et al. 2017 (concrete distribution); Romero & Lohit 2022, section 3.
    """
    safe = noise.clamp(torch.finfo(noise.dtype).tiny, 1 - torch.finfo(noise.dtype).eps)
    relaxed = torch.sigmoid((2 * logits + torch.logit(safe)) / heat)
    hard = (relaxed > 0.5).to(relaxed.dtype)
    return hard + (relaxed - relaxed.detach())  # in this order, so that a gate is exactly 0 or 1
