"""Poses of neighbourhoods whose law is known."""

import math

import torch

from partial_equiv.symmetry import wrap

NOISE = math.radians(3)


def simulate(name, value=0.0, *, no_images=500, no_neighbours=45, noise=NOISE, any_centre=True, seed=0):
    """Return (poses [N, k], centres [N]) of a family; `value` is its bound or deviation in degrees, one or [N, 1]."""
    draws = torch.Generator().manual_seed(seed)
    shape = (no_images, no_neighbours)
    sides = 2 * torch.rand(shape, generator=draws) - 1
    bells = torch.randn(shape, generator=draws)
    value = torch.deg2rad(torch.as_tensor(value, dtype=torch.float32))
    if name.startswith("C"):
        order = int(name[1:])
        turns = torch.randint(order, shape, generator=draws) * (2 * math.pi / order)
    else:
        turns = {"none": 0 * sides, "uniform": value * sides, "normal": value * bells, "full": math.pi * sides}[name]
    centres = math.pi * (2 * torch.rand(no_images, 1, generator=draws) - 1) * any_centre
    poses = turns + centres + noise * torch.randn(shape, generator=draws)
    return wrap(poses), wrap(centres[:, 0])
