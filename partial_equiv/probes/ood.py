"""Out-of-distribution symmetry: which poses does the data never show of such an image?

Axes: N images, B batch.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch, Law, rotate_images
from partial_equiv.errors import UserError
from partial_equiv.probes.probe import Probe
from partial_equiv.probes.readings import symmetry_net
from partial_equiv.symmetry import ood_score, score_detection, wrap


class OutOfDistribution(Probe):
    """Every test image is turned once more, by an angle uniform on the circle; is its pose one that its class shows?

    Truth: the law of the class does not contain the angle (beyond its bound, beyond one deviation, or off every element
    of C_n by more than the margin, distances wrapped). Detector, without training: the score of the image is above 0.

    Args:
        laws: Law of each class; None where nobody knows.
        seed: Of the angles.
        margin: Degrees of slack of the laws that allow single angles.
    Raises:
        UserError: the laws or the true poses are unknown.
    Source: Urbano & Romero 2023, section 5.3. Differs: corrected labels of cyclic sets; the images are those of the
        test set, turned already, so that they are interpolated twice.
    """

    def __init__(self, *, laws: Sequence[Law] | None, seed: int, margin: float) -> None:
        if not 0 <= margin < 180:
            raise UserError(f"test.ood.margin={margin} is out of range: give degrees from 0 to below 180")
        self.laws, self.seed, self.margin = laws, seed, math.radians(margin)

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "ood/accuracy", "ood/auroc" and "ood/baseline", the accuracy of the better constant answer."""
        net = symmetry_net(model, "ood")
        if self.laws is None:
            raise UserError("test.probes=[ood] needs the true law of each class: set dataset.law, or leave ood out")
        scores, outside = [], []
        generator = torch.Generator().manual_seed(self.seed)
        for batch in loader:
            if batch.pose is None:
                raise UserError(
                    "test.probes=[ood] needs the true pose of each image: set dataset.law, or leave ood out"
                )
            angles = (torch.rand(len(batch.labels), generator=generator) * 2 - 1) * math.pi
            pixels = rotate_images(net.pixels(batch.images), angles.to(batch.images))
            reading = net.read(net.normalised(pixels))
            scores.append(ood_score(reading.pose, reading.level, reading.family, margin=self.margin).cpu())
            outside.append(self._outside(wrap(batch.pose.cpu() + angles), batch.labels.cpu()))
        found = score_detection(torch.cat(scores), torch.cat(outside))
        return {f"ood/{name}": value for name, value in found._asdict().items()}

    def _outside(self, angles: Tensor, labels: Tensor) -> Tensor:
        """Return whether the law of each image's class does not contain its angle: [B], [B] -> bool [B]."""
        assert self.laws is not None
        inside = torch.stack([law.contains(angles, self.margin) for law in self.laws])
        return ~inside.gather(0, labels[None])[0]
