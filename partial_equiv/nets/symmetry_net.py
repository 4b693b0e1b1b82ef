"""SymmetryNet: the pose of an image, and how far images like it turn in a data set.

Axes: B batch, C channels, Y X image, d latent numbers, F families of laws, L levels (interval bound, deviation).
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.datasets import rotate_images
from partial_equiv.errors import UserError
from partial_equiv.menu import choose
from partial_equiv.nets.autoencoder import Autoencoder, CanonicalDecoder
from partial_equiv.nets.encoder import GroupConvEncoder, InvariantEncoder
from partial_equiv.nets.kit import ConvKit
from partial_equiv.nets.steerable import E2cnnEncoder, EscnnEncoder
from partial_equiv.symmetry import FAMILIES, family_levels, wrap

ENCODERS = ("group_conv", "escnn", "e2cnn")
UNIFORM, NORMAL = 0, 1
"""Places of the two levels of an interval and of a normal law."""


class Prediction(NamedTuple):
    """What the head says of images.

    Shape:
        centre [B, 2]: (cosine, sine) of the middle of the poses of such images, of any length; levels [B, 2]: bound of
        the interval and deviation of the normal law, radians; spreads [B, 2]: expected absolute error of each, radians;
        logits [B, F]: of the families.
    """

    centre: Tensor
    levels: Tensor
    spreads: Tensor
    logits: Tensor


class Reading(NamedTuple):
    """What is inferred of images, angles in radians.

    Shape:
        pose [B]: from the middle of the poses of such images; confidence [B] in [0, 1]: of the pose; level [B]: by the
        family; uncertainty [B]: expected absolute error of the level; family [B] int64: place in FAMILIES;
        posterior [B, F]; z [B, d].
    """

    pose: Tensor
    confidence: Tensor
    level: Tensor
    uncertainty: Tensor
    family: Tensor
    posterior: Tensor
    z: Tensor


class LevelHead(nn.Module):
    """z [B, d] -> Prediction.

    "bounded": levels are pi sigmoid(.), which has a gradient everywhere; "relu": the published head, a ReLU after every
    layer, which may start dead, has no upper bound, and predicts in degrees as its weights are scaled for.

    Args:
        no_latent: d.
        width: Hidden units.
        output: "bounded" or "relu".
    Source: Urbano & Romero 2023, section 3.3.
    """

    def __init__(self, no_latent: int, *, width: int, output: Literal["bounded", "relu"]) -> None:
        super().__init__()
        self.output = output
        self.norm = nn.BatchNorm1d(no_latent, affine=False) if output == "bounded" else nn.Identity()
        first, second = nn.Linear(no_latent, width), nn.Linear(width, width)
        self.hidden = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.last = nn.Linear(width, 2 + 2 + 2 + len(FAMILIES))
        if output == "relu":
            for layer in (first, second, self.last):
                nn.init.normal_(layer.weight, std=0.15)
                nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Prediction:
        """Predict."""
        numbers = self.last(self.hidden(self.norm(z)))
        centre, levels, spreads, logits = numbers.split([2, 2, 2, len(FAMILIES)], dim=-1)
        bounded = math.pi * torch.sigmoid(levels)
        levels = torch.deg2rad(functional.relu(levels)) if self.output == "relu" else bounded
        return Prediction(centre, levels, functional.softplus(spreads) + 1e-3, logits)


class SymmetryNet(nn.Module):
    """Autoencoder and level head: everything that symmetry inference learns.

    It takes normalised images, as every network here, and undoes the normalisation, since a turn brings black corners
    in. `read` says all that is inferred of images; `forward` returns the levels alone.

    Args:
        in_channels: Channels of the images.
        size: (Y, X) in pixels.
        mean: Of the data set, per channel, of pixels in [0, 1].
        std: The same for the deviation.
        kit: Makers of group convolutions, for encoder="group_conv".
        encoder: "group_conv", "escnn" or "e2cnn".
        widths: Channels of the encoder.
        no_latent: Numbers of z.
        resolution: Side that the encoder sees, pixels.
        decoder_width: Channels of the decoder at full size.
        head: "latent" reads levels off z, "encoder" trains a second encoder for them (published).
        head_width: Hidden units of the head.
        head_output: "bounded", or the published "relu".
        centred: Take the predicted centre off the pose.
        family: What a level means: "auto" (per image by the most probable family), "uniform", "normal" or "cyclic".
    Shape:
        images [B, C, Y, X] -> levels [B], radians.
    Raises:
        UserError: a choice that does not exist or does not fit.
    Source: Urbano & Romero 2023.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        in_channels: int,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        kit: ConvKit,
        encoder: str,
        widths: list[int],
        no_latent: int,
        resolution: int,
        decoder_width: int,
        head: Literal["latent", "encoder"],
        head_width: int,
        head_output: Literal["bounded", "relu"],
        centred: bool,
        family: Literal["auto", "uniform", "normal", "cyclic"],
    ) -> None:
        super().__init__()
        if size[0] != size[1]:
            raise UserError(f"images of {size[0]}x{size[1]} pixels do not turn in their frame: give square images")

        def make_encoder() -> InvariantEncoder:
            choose(dict.fromkeys(ENCODERS), encoder, "net.encoder")
            if encoder == "group_conv":
                return GroupConvEncoder(
                    in_channels=in_channels, kit=kit, widths=widths, no_latent=no_latent, resolution=resolution
                )
            make = EscnnEncoder if encoder == "escnn" else E2cnnEncoder
            return make(in_channels=in_channels, widths=widths, no_latent=no_latent, resolution=resolution)

        decoder = CanonicalDecoder(out_channels=in_channels, size=size, no_latent=no_latent, width=decoder_width)
        self.autoencoder = Autoencoder(make_encoder(), decoder)
        self.head_encoder = make_encoder() if head == "encoder" else None
        self.head = LevelHead(no_latent, width=head_width, output=head_output)
        self.centred, self.family = centred, family
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def pixels(self, images: Tensor) -> Tensor:
        """Return pixels in [0, 1] of normalised images."""
        return images * self.std + self.mean

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return normalised images of pixels in [0, 1]."""
        return (pixels - self.mean) / self.std

    def predict(self, pixels: Tensor, z: Tensor) -> Prediction:
        """Return what the head says, of pixels and of their z, which gets no gradient."""
        source = z.detach() if self.head_encoder is None else self.head_encoder(pixels).z
        prediction: Prediction = self.head(source)
        return prediction

    def read(self, images: Tensor) -> Reading:
        """Return all that is inferred of normalised images."""
        pixels = self.pixels(images)
        code = self.autoencoder.encoder(pixels)
        prediction = self.predict(pixels, code.z)
        posterior = self.restricted(prediction.logits).softmax(dim=-1)
        family = posterior.argmax(dim=-1)
        centre = torch.atan2(prediction.centre[:, 1], prediction.centre[:, 0])
        pose = wrap(code.pose - centre) if self.centred else code.pose
        level = family_levels(family, prediction.levels)
        place = (family == FAMILIES.index("normal")).long().unsqueeze(-1)
        uncertainty = prediction.spreads.gather(-1, place).squeeze(-1)
        return Reading(pose, code.confidence, level, uncertainty, family, posterior, code.z)

    def restricted(self, logits: Tensor) -> Tensor:
        """Return the logits with the families that `family` rules out at -inf."""
        kept = {"auto": FAMILIES, "uniform": ("uniform",), "normal": ("normal",)}
        names = kept.get(self.family) or ("none", *(name for name in FAMILIES if name.startswith("C")))
        out = torch.tensor([name not in names for name in FAMILIES], device=logits.device)
        return logits.masked_fill(out, -math.inf)

    def standardise(self, images: Tensor) -> Tensor:
        """Return normalised images turned back by their pose."""
        return self.normalised(rotate_images(self.pixels(images), -self.read(images).pose))

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the levels; nothing is drawn, and `generator` is taken because other networks need one."""
        return self.read(images).level
