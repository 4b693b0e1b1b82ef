"""SymmetryDetector: what a trained SymmetryNet says of images as a user holds them.

Axes: B images, C channels, Y X pixels, F families.
"""

import math
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.datasets import rotate_images
from partial_equiv.errors import UserError
from partial_equiv.nets import Reading, SymmetryNet
from partial_equiv.runs import load_model
from partial_equiv.symmetry import FAMILIES, negative_log_density, ood_score

AT_ONCE = 500
SHIPPED = Path(__file__).parent / "shipped" / "MNIST-Multiple"
"""A small detector that comes with the library, trained on turned digits; see the card beside it."""


class SymmetryDetector:
    """Pose and level of symmetry of images, without labels.

    Angles are radians, counter-clockwise positive. Images of any side are taken: the network looks at their inscribed
    disc, resized. What lies outside the data it was trained on gets an answer too, which then means little.

    Args:
        net: A trained network; it is put in evaluation mode.
        device: Where it computes.
    Raises:
        UserError: another kind of network.
    Source: Urbano & Romero 2023.
    """

    def __init__(self, net: SymmetryNet, device: torch.device | str = "cpu") -> None:
        if not isinstance(net, SymmetryNet):
            raise UserError(f"{type(net).__name__} infers no symmetry: give a network trained with train=symmetry")
        self.device = torch.device(device)
        self.net = net.to(self.device).eval()

    @classmethod
    def load(cls, run: Path | str = SHIPPED, device: torch.device | str = "cpu") -> Self:
        """Return the detector of a finished run.

        Args:
            run: Its folder; the default is the detector that comes with the library.
            device: Where it computes.

        Raises:
            UserError: no such run, a damaged checkpoint, or a run that trained something else.
        """
        net = load_model(Path(run))
        if not isinstance(net, SymmetryNet):
            raise UserError(f"{run} trained {type(net).__name__}: give the folder of a run with train=symmetry")
        return cls(net, device)

    def pose(self, images: Tensor | NDArray[np.generic]) -> Tensor:
        """Return the angle of each image from its natural orientation, in (-pi, pi]: [B]."""
        return self.read(images).pose

    def confidence(self, images: Tensor | NDArray[np.generic]) -> Tensor:
        """Return in [0, 1] how much each pose means; near 0 where a part of a turn leaves the image as it is: [B]."""
        return self.read(images).confidence

    def level(self, images: Tensor | NDArray[np.generic]) -> Tensor:
        """Return how far such images turn in the data of the training, in [0, pi]: [B].

        It is the parameter of the image's family: 0 for none, the bound of an interval, the deviation of a normal law,
        2 pi / n for C_n, pi for the full circle.
        """
        return self.read(images).level

    def uncertainty(self, images: Tensor | NDArray[np.generic]) -> Tensor:
        """Return the expected absolute error of the level: [B]."""
        return self.read(images).uncertainty

    def family(self, images: Tensor | NDArray[np.generic]) -> list[str]:
        """Return the most probable law of the poses of such images: none, uniform, normal, C2, .., C8 or full."""
        return [FAMILIES[place] for place in self.read(images).family.tolist()]

    def standardize(self, images: Tensor | NDArray[np.generic]) -> Tensor:
        """Return the images turned back by their poses, in their own dtype and shape [B, C, Y, X]."""
        given = _batch(images)
        turned: Tensor = rotate_images(given, -self.pose(given).to(given.device))
        return turned

    def ood_score(self, images: Tensor | NDArray[np.generic], margin: float = math.radians(5)) -> Tensor:
        """Return how far each pose lies outside the law of such images, above 0 for outside: [B].

        Args:
            images: As everywhere.
            margin: Slack of the laws that allow single angles (none, C_n), radians.
        """
        reading = self.read(images)
        return ood_score(reading.pose, reading.level, reading.family, margin=margin)

    def surprise(self, images: Tensor | NDArray[np.generic], noise: float = math.radians(10)) -> Tensor:
        """Return -log of the density of each pose under the law of such images, per radian: [B].

        An out-of-distribution score that knows where a law is dense, in the place of how far outside a pose lies.

        Args:
            images: As everywhere.
            noise: Standard deviation of a pose, radians.
        """
        reading = self.read(images)
        return negative_log_density(reading.pose, reading.level, reading.family, noise=noise)

    @torch.no_grad()
    def read(self, images: Tensor | NDArray[np.generic]) -> Reading:
        """Return all of it at once, on the CPU.

        Args:
            images: uint8, or floating numbers in [0, 1], on black ground where the training images were.
        Shape:
            images [B, C, Y, X], or [B, Y, X] of one channel.

        Raises:
            UserError: another shape, dtype, range or number of channels, or NaN.
        """
        pixels = _batch(images)
        channels = len(self.net.mean)
        if pixels.shape[1] != channels:
            raise UserError(
                f"images have {pixels.shape[1]} channels and this detector was trained on {channels}: "
                f"give [B, {channels}, Y, X], for example the mean over channels for a grey one"
            )
        if not pixels.is_floating_point():
            pixels = pixels.float() / 255
        elif not (bool(torch.isfinite(pixels).all()) and 0 <= float(pixels.min()) <= float(pixels.max()) <= 1):
            raise UserError("images hold NaN or numbers outside [0, 1]: give uint8, or pixels / 255")
        chunks = [self.net.read(self.net.normalised(part.to(self.device))) for part in pixels.float().split(AT_ONCE)]
        return Reading(*(torch.cat(column).cpu() for column in zip(*chunks, strict=True)))


def _batch(images: Tensor | NDArray[np.generic]) -> Tensor:
    """Return images as a tensor [B, C, Y, X].

    Raises:
        UserError: another shape or dtype, no image, or images that are not square.
    """
    given = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    given = given.unsqueeze(1) if given.dim() == 3 else given
    if given.dim() != 4 or 0 in given.shape or not (given.dtype == torch.uint8 or given.is_floating_point()):
        raise UserError(
            f"images are {list(given.shape)} of {given.dtype}: give uint8 or floating [B, C, Y, X], at least one"
        )
    if given.shape[-1] != given.shape[-2]:
        height, width = given.shape[-2:]
        raise UserError(f"images of {height}x{width} pixels do not turn in their frame: give square images")
    return given
