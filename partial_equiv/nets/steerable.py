"""Steerable encoders of symmetry inference: escnn's, downsampling, and e2cnn's in the historical layout.

Features are scalars, which a turn leaves alone, and vectors of frequency k, which a turn by a turns by k a.

Axes: B batch, C channels, Y X image, d latent numbers, h vectors, K frequencies, I O channels, V U kernel.
"""

import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.errors import UserError
from partial_equiv.nets.encoder import NO_FREQUENCIES, Code, InvariantEncoder, framed
from partial_equiv.nets.steerable_peers import load_e2cnn, load_escnn, rotations_of_e2cnn

FREQUENCIES = range(1, NO_FREQUENCIES + 1)


class EscnnEncoder(InvariantEncoder):
    """Three steerable convolutions of escnn on SO(2), with pooling, on the disc of each image.

    2h scalars and h vectors of frequency 1 on sides R and (R + 1) / 2; 6h scalars and h vectors of each frequency 1..4
    on side (R + 3) / 4; then means over the disc and linear maps that commute with turns. Poolings blur before they
    skip, and features end with the disc, softly.
    Exact for turns by 90 degrees; elsewhere pixels are interpolated, and the pose of an untrained network is off by
    3 degrees for smooth pictures and 8 for digits of 28 pixels. `copy.deepcopy` and pickling are not promised.

    Args:
        in_channels: Channels of the images.
        widths: [h].
        no_latent: d.
        resolution: R, pixels: 13, 17, 21, .. (1 more than a multiple of 4), so that both poolings meet the centre.
    Shape:
        images [B, C, Y, X] -> z [B, d], vectors [B, 4, 2].
    Raises:
        UserError: escnn is not installed, several widths, or another resolution.
    Source: Weiler & Cesa 2019; layout after Winter et al. 2022. Differs: pools, and has four frequencies.
    """

    def __init__(self, *, in_channels: int, widths: Sequence[int], no_latent: int, resolution: int) -> None:
        super().__init__()
        h = _one_width(widths, "escnn")
        if resolution < 13 or resolution % 4 != 1:
            below = max(13, resolution - (resolution - 1) % 4)
            raise UserError(
                f"net.resolution={resolution}: the encoder of escnn pools twice by 2, which is exact on 1 more than a "
                f"multiple of 4, from 13: take {below} or {below + 4}"
            )
        peer = load_escnn()
        plane = peer.gspaces.rot2dOnR2(N=-1, maximum_frequency=8)
        fields = partial(_fields, peer, plane)
        hidden = fields(2 * h, h * [1])
        last = fields(6 * h, [k for k in FREQUENCIES for _ in range(h)])
        self.resolution = resolution
        self.blocks = nn.ModuleList(
            [
                _Block(peer, fields(in_channels, []), hidden, 7, 3),
                _Block(peer, hidden, hidden, 5, 2),
                # Frequency 4 is 3 more than hidden fields have, and filters end at 2 unless told otherwise.
                _Block(peer, hidden, last, 5, 2, frequencies_cutoff=lambda radius: min(2 * radius, 3.0)),
            ]
        )
        # Networks of the literature blur by 0.66 pixels; here that doubles the error of the pose.
        self.pool, self.wrap = peer.nn.PointwiseAvgPoolAntialiased(hidden, sigma=1.0, stride=2), peer.nn.GeometricTensor
        self.readout = _Readout(6 * h, h, NO_FREQUENCIES, no_latent)

    def forward(self, images: Tensor) -> Code:
        """Encode pixels in [0, 1]."""
        first, *others = self.blocks
        f = _on_disc(first(framed(images, self.resolution)))
        for block in others:
            pooled = self.pool(self.wrap(f, self.pool.in_type)).tensor
            f = _on_disc(block(pooled))
        code: Code = self.readout(f.mean(dim=(-2, -1)))
        return code


class E2cnnEncoder(InvariantEncoder):
    """The historical encoder: seven steerable convolutions of e2cnn and no pooling, on the disc of each image.

    `group` says which group runs: "SO2", or "C16", whose filters between these fields are the same (see
    `rotations_of_e2cnn`); states fit both. The seventh convolution, 1x1 and then a mean over pixels, is a mean and then
    linear maps: the same, and torch from 2.15 refuses the masks of e2cnn's own.
    Exact for turns by 90 degrees; the one vector gives no confidence, which is always 1.
    Single precision alone, as e2cnn's filters are. `copy.deepcopy` and pickling are not promised.

    Args:
        in_channels: Channels of the images.
        widths: [h]: 2h scalars and h vectors of frequency 1 everywhere.
        no_latent: d.
        resolution: Side that the network sees, pixels, from 9 (published 28).
    Shape:
        images [B, C, Y, X] -> z [B, d], vectors [B, 1, 2].
    Raises:
        UserError: e2cnn is not installed or builds nothing here, several widths, or a resolution below 9.
    Source: Urbano & Romero 2023, after Winter et al. 2022. Differs: every layer has its own nonlinearity (the second
        and third shared one), the corners are cut off, the last convolution comes after the mean.
    """

    def __init__(self, *, in_channels: int, widths: Sequence[int], no_latent: int, resolution: int) -> None:
        super().__init__()
        h = _one_width(widths, "e2cnn")
        if resolution < 9:
            raise UserError(f"net.resolution={resolution}: the encoder of e2cnn sees at least 9 pixels")
        peer = load_e2cnn()
        self.resolution = resolution
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "indexing with dtype torch.uint8")
            plane, self.group = rotations_of_e2cnn(peer)
            images, hidden = _fields(peer, plane, in_channels, []), _fields(peer, plane, 2 * h, h * [1])
            kernels = ((7, 1), (5, 2), (5, 2), (5, 2), (5, 2), (3, 2))
            kinds = pairwise([images] + len(kernels) * [hidden])
            self.blocks = nn.Sequential(
                *(_Block(peer, *kind, *kernel) for kind, kernel in zip(kinds, kernels, strict=True))
            )
        self.readout = _Readout(2 * h, h, 1, no_latent)

    def forward(self, images: Tensor) -> Code:
        """Encode pixels in [0, 1]."""
        values = self.blocks(framed(images, self.resolution))
        code: Code = self.readout(values.mean(dim=(-2, -1)))
        return code


class _Block(nn.Module):
    """A convolution, then norm and nonlinearity: batch norm and ReLU of scalars, both of the lengths of vectors.

    The peers' convolutions keep their filters between training and evaluation; this one expands them in every pass, so
    that a state has the same names in both, and none is stale after loading.
    """

    def __init__(self, peer: Any, source: Any, target: Any, size: int, padding: int, **choices: Any) -> None:
        super().__init__()
        e = peer.nn
        # Bases are made anew: the peers share them between networks, and one that moves would take the others along.
        conv = e.R2Conv(source, target, size, bias=False, recompute=True, **choices)
        self.basis, self.weights = conv.basisexpansion, conv.weights
        self.shape, self.padding = (target.size, source.size, size, size), padding
        self.target, self.wrap = target, e.GeometricTensor
        scalars, vectors = (
            e.FieldType(target.gspace, [r for r in target.representations if r.is_trivial() == trivial])
            for trivial in (True, False)
        )
        self.of_scalars = e.SequentialModule(e.InnerBatchNorm(scalars), e.ReLU(scalars))
        self.of_vectors = e.SequentialModule(e.NormBatchNorm(vectors), e.NormNonLinearity(vectors))

    def forward(self, values: Tensor) -> Tensor:
        """Return [B, O, Y', X'] of [B, I, Y, X]."""
        kernel = self.basis(self.weights).reshape(self.shape)
        mixed = functional.conv2d(values, kernel, padding=self.padding)
        parts = (self.of_scalars, self.of_vectors)
        split = mixed.split([part.in_type.size for part in parts], dim=1)
        # The peers' own MultipleModule returns single precision, whatever it is given.
        done = (part(self.wrap(f, part.in_type)).tensor for part, f in zip(parts, split, strict=True))
        return torch.cat(list(done), dim=1)


class _Readout(nn.Module):
    """Means of scalars and vectors [B, n + 2 K h] -> Code, by the linear maps that commute with turns.

    z is linear in the scalars; v_k = sum_i (a_i + b_i J) v_ki, with J a turn by 90 degrees.
    """

    def __init__(self, no_scalars: int, no_vectors: int, no_frequencies: int, no_latent: int) -> None:
        super().__init__()
        self.no_scalars = no_scalars
        self.latent = nn.Linear(no_scalars, no_latent, bias=False)
        self.turns = nn.Parameter(torch.randn(no_frequencies, no_vectors, 2) / no_vectors**0.5)

    def forward(self, means: Tensor) -> Code:
        """Read off the code."""
        x, y = means[:, self.no_scalars :].unflatten(1, (*self.turns.shape[:2], 2)).unbind(dim=-1)  # [B, K, h]
        a, b = self.turns.unbind(dim=-1)
        vectors = torch.stack([a * x - b * y, b * x + a * y], dim=-1).sum(dim=2)
        return Code(self.latent(means[:, : self.no_scalars]), vectors)


def _fields(peer: Any, plane: Any, no_scalars: int, frequencies: Iterable[int]) -> Any:
    return peer.nn.FieldType(plane, no_scalars * [plane.trivial_repr] + [plane.irrep(k) for k in frequencies])


def _on_disc(values: Tensor) -> Tensor:
    """Return values [B, C, Y, X] on the inscribed disc, whose edge is one pixel wide, and zero outside."""
    side = values.shape[-1]
    line = torch.arange(side, device=values.device, dtype=values.dtype) - (side - 1) / 2
    return values * (side / 2 - torch.hypot(line[:, None], line)).clamp(0, 1)


def _one_width(widths: Sequence[int], encoder: str) -> int:
    if len(widths) != 1 or widths[0] < 1:
        raise UserError(f"net.widths={list(widths)}: net.encoder={encoder} takes one width from 1, such as [8]")
    return widths[0]
