"""What probes of symmetry inference share: everything a network reads off the images of a loader.

Axes: N images, K classes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch, Law
from partial_equiv.errors import UserError
from partial_equiv.nets import Reading, SymmetryNet


class Readings(NamedTuple):
    """Readings of a set, on the CPU, with what is known of it.

    Shape:
        reading: as `Reading`, [N]; labels [N]; pose [N], the true turns in radians, or None.
    """

    reading: Reading
    labels: Tensor
    pose: Tensor | None


def symmetry_net(model: nn.Module, probe: str) -> SymmetryNet:
    """Return the model as what it must be.

    Raises:
        UserError: it is another network.
    """
    if not isinstance(model, SymmetryNet):
        raise UserError(f"the probe {probe} looks at poses and levels: set net=SymmetryNet train=symmetry")
    return model


def collect(model: SymmetryNet, batches: Iterable[Batch]) -> Readings:
    """Read every image of a loader."""
    readings, labels, poses = [], [], []
    for batch in batches:
        readings.append(Reading(*(column.cpu() for column in model.read(batch.images))))
        labels.append(batch.labels.cpu())
        poses.append(None if batch.pose is None else batch.pose.cpu())
    known = [pose for pose in poses if pose is not None]
    return Readings(
        Reading(*(torch.cat(column) for column in zip(*readings, strict=True))),
        torch.cat(labels),
        torch.cat(known) if len(known) == len(poses) else None,
    )


def true_levels(laws: Sequence[Law], labels: Tensor) -> Tensor:
    """Return the level of each image's class, radians: [N]."""
    return torch.tensor([law.level for law in laws], dtype=torch.float32)[labels]


def law_family(law: Law) -> str:
    """Return the name in FAMILIES of a law of the data."""
    if law.kind != "cyclic":
        return law.kind
    return "none" if law.value == 1 else f"C{law.value:g}"
