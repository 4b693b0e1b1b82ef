"""Views whose code is known: four points of an object, turned by its pose, and its hues; and objectives that know them.

Axes: N objects, V views of an object, M rows, L latents.
"""

import math

import torch
from torch import nn

from partial_equiv.datasets import ViewSet
from partial_equiv.latents import COLUMNS
from partial_equiv.nets import SplitEncoder
from partial_equiv.rotations import euler_matrix

POINTS = 4
WIDTH, EQUI = 4 + 3 * POINTS, 3 * POINTS
CLASSES = ("chair", "mug", "car")


def sampled_latents(no_objects, no_views, seed=0):
    """Return latents as those of 3DIEBench are distributed, [N, V, 7]."""
    u = torch.rand(no_objects, no_views, 7, generator=torch.Generator().manual_seed(seed))
    low = torch.tensor([-math.pi / 2] * 3 + [0.0] * 4)
    high = torch.tensor([math.pi / 2] * 3 + [1.0, math.pi / 4, 2 * math.pi, 1.0])
    return low + (high - low) * u


def make_views(no_objects, no_views, *, seed=0, noise=0.3, latents=None, groups=None):
    """Return a set of "images" [16, 1, 1]: cos and sin of two hues, then the turned points of the object.

    Points are those of the class with some noise, of length 1.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(no_objects) % len(CLASSES)
    centres = torch.randn(len(CLASSES), POINTS, 3, generator=torch.Generator().manual_seed(77))
    points = centres[labels] + noise * torch.randn(no_objects, POINTS, 3, generator=generator)
    points = nn.functional.normalize(points, dim=-1)
    latents = sampled_latents(no_objects, no_views, seed) if latents is None else latents
    turned = torch.einsum("nvij,npj->nvpi", euler_matrix(latents[..., :3]), points).flatten(2)
    hues = 2 * math.pi * latents[..., [COLUMNS.index("floor_hue"), COLUMNS.index("light_hue")]]
    images = torch.cat([hues.cos(), hues.sin(), turned], dim=-1).flatten(0, 1)[:, :, None, None]
    return ViewSet(images, latents, labels, mean=[0.0], std=[1.0], pairs_per_object=1, seed=0, groups=groups)


def make_encoder():
    """Return an encoder whose invariant part are the hues and whose equivariant part the points."""
    return SplitEncoder(nn.Flatten(), width=WIDTH, equi=EQUI)


class Oracle(nn.Module):
    """Predicts the turned points of another view exactly.

    Args:
        shift: Added as a number to embeddings and, with the other sign, to predictions: all dot products fall by its
            square.
    """

    split = True
    has_predictor = True

    def __init__(self, model=None, shift=0.0):
        super().__init__()
        self.model, self.shift = model or make_encoder(), shift

    def embed(self, h):
        return nn.functional.pad(h[:, -EQUI:], (0, 1), value=self.shift)

    def embeddings(self, h):
        return {"z_inv": h[:, :-EQUI], "z_equi": h[:, -EQUI:]}

    def predict(self, z, source, target):
        first, second = (euler_matrix(latents[:, :3]) for latents in (source, target))
        points = z[:, :EQUI].unflatten(1, (POINTS, 3))
        turned = torch.einsum("nij,nkj,npk->npi", second, first, points).flatten(1)
        return nn.functional.pad(turned, (0, 1), value=-self.shift)


class Blind(Oracle):
    """Embeds and predicts at random."""

    def __init__(self):
        super().__init__()
        self.draws = torch.Generator().manual_seed(0)

    def embed(self, h):
        return torch.randn(len(h), 16, generator=self.draws)

    def predict(self, z, source, target):
        return torch.randn(len(z), 16, generator=self.draws)
