"""Sets of images turned upright by their inferred poses, for what is learned on them and for export.

Axes: N images, C channels, Y X pixels, d latent numbers.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.datasets import Batch, ImageSet, rotate_images
from partial_equiv.errors import UserError
from partial_equiv.nets import SymmetryNet

CHUNK = 256
"""Images that go through a network at once."""


class Upright(NamedTuple):
    """A set as it is and turned upright, on the CPU.

    Shape:
        raw, standardised uint8 [N, C, Y, X]; labels [N] int64; pose [N] and level [N] in radians; z [N, d].
    """

    raw: Tensor
    standardised: Tensor
    labels: Tensor
    pose: Tensor
    level: Tensor
    z: Tensor


def upright(model: SymmetryNet, batches: Iterable[Batch]) -> Upright:
    """Turn every image back by its pose: standardised = round(T_{-pose} raw), one interpolation.

    Args:
        model: In evaluation mode, on any device.
        batches: Normalised images without augmentation, on any device.
    """
    parts = []
    for batch in batches:
        images = batch.images.to(model.mean.device)
        reading = model.read(images)
        raw = (model.pixels(images) * 255).round().clamp(0, 255).to(torch.uint8)
        columns = (raw, rotate_images(raw, -reading.pose), batch.labels, reading.pose, reading.level, reading.z)
        parts.append([column.detach().cpu() for column in columns])
    return Upright(*(torch.cat(column) for column in zip(*parts, strict=True)))


def plain_batches(images: ImageSet) -> Iterator[Batch]:
    """Yield a set in order, without its augmentation."""
    plain = ImageSet(images.images, images.labels, mean=images.mean, std=images.std)
    for index in torch.arange(len(plain)).split(CHUNK):
        yield plain[index]


def check_labels(train: ImageSet, probe: str) -> None:
    """Refuse to score by labels where there are none.

    Raises:
        UserError: all training labels are equal, as they are in a set without labels.
    """
    if len(train.labels.unique()) < 2:
        raise UserError(
            f"the probe {probe} scores by labels, and the {len(train)} training images have none or only one: "
            f"give a labelled set, or leave {probe} out of the probes"
        )
