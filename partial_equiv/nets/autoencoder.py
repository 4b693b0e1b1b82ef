"""IE-AE: an image as an invariant code, drawn in a frame of its own, and the turn that brings the drawing onto it.

Axes: B batch, C channels, Y X image, d latent numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.datasets import rotate_images
from partial_equiv.nets.encoder import Code, InvariantEncoder


class Reconstruction(NamedTuple):
    """What an autoencoder makes of images.

    Shape:
        code: z [B, d] and vectors; canonical [B, C, Y, X]: the drawing, before it is turned; images [B, C, Y, X].
    """

    code: Code
    canonical: Tensor
    images: Tensor


class CanonicalDecoder(nn.Module):
    """Draw an image of any size from d numbers: a quarter of the size, half of it, all of it; pixels in (0, 1).

    It is an ordinary network and needs no symmetry: it draws each image in one frame, whatever its pose.

    Args:
        out_channels: C.
        size: (Y, X) in pixels.
        no_latent: d.
        width: Channels at full size; twice as many before.
    Shape:
        z [B, d] -> [B, C, Y, X].
    Source: Winter et al. 2022. Differs: a seed of a quarter of the size that differs from place to place.
    """

    def __init__(self, *, out_channels: int, size: tuple[int, int], no_latent: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.seed = [-(-side // 4) for side in size]
        self.middle = [-(-side // 2) for side in size]
        self.spread = nn.Linear(no_latent, 2 * width * self.seed[0] * self.seed[1])
        self.coarse = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU())
        self.fine = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.draw = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Draw."""
        f = functional.relu(self.spread(z)).unflatten(1, (-1, *self.seed))
        f = self.coarse(functional.interpolate(f, self.middle, mode="bilinear", align_corners=False))
        f = self.fine(functional.interpolate(f, self.size, mode="bilinear", align_corners=False))
        return torch.sigmoid(self.draw(f))


class Autoencoder(nn.Module):
    """x -> T_psi(x) decoder(z(x)): pose and shape of an image told apart without labels.

    The frame of the drawings is free: (psi, decoder) and (psi + k, T_-k decoder) reconstruct alike, for every z. The
    centre term of `Canonicalization` chooses the frame in which poses are nearest to 0.

    Args:
        encoder: Images -> Code.
        decoder: z -> drawing.
    Shape:
        images [B, C, Y, X], pixels in [0, 1] -> Reconstruction.
    Source: Winter et al. 2022; Urbano & Romero 2023, section 3. Differs: the turn is exactly orthogonal.
    """

    def __init__(self, encoder: InvariantEncoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Tensor) -> Reconstruction:
        """Encode, draw and turn the drawing."""
        code: Code = self.encoder(images)
        canonical: Tensor = self.decoder(code.z)
        return Reconstruction(code, canonical, rotate_images(canonical, code.pose))
