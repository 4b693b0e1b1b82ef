"""Levels, poses and families against the laws of the data, and the figures of a symmetry inference.

Axes: N images, K classes.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch, Law, rotate_images
from partial_equiv.drawing import level_scatter, pose_densities, standardised_grid
from partial_equiv.errors import UserError
from partial_equiv.nets import SymmetryNet
from partial_equiv.probes.probe import Artifact, Probe
from partial_equiv.probes.readings import Readings, collect, law_family, symmetry_net, true_levels
from partial_equiv.probes.standardised import upright
from partial_equiv.symmetry import FAMILIES, score_levels, score_poses, wrap

EQUIVARIANCE_DEGREES = (30, 45, 77, 90)
NO_EQUIVARIANCE_IMAGES = 1_000
SHOWN_PER_CLASS = 10
BIN = math.radians(5)


class Symmetry(Probe):
    """What a SymmetryNet infers of every image, scored where the laws of the data are known.

    Levels in degrees: error of the class means (the published headline), of single images, and of the best constant.
    Poses in degrees: error up to one offset for each class, since no label says what upright is. Families: share of
    images whose most probable family is that of their class.
    Equivariance of the pose: median of |psi(T_a x) - psi(x) - a| on up to 1,000 images.

    Args:
        class_names: Name of each class.
        laws: Law of each class; None where nobody knows, and nothing is scored.
    Source: Urbano & Romero 2023, section 5. Differs: means are taken over images, not over batches of unequal size.
    """

    def __init__(self, *, class_names: Sequence[str], laws: Sequence[Law] | None) -> None:
        self.class_names, self.laws = tuple(class_names), laws
        self.found: Readings | None = None
        self.pictures: tuple[Tensor, Tensor, list[str]] | None = None

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "levels/..", "poses/..", "families/.." and "equivariance/..", angles in degrees."""
        net = symmetry_net(model, "symmetry")
        kept: list[Batch] = []
        self.found = collect(net, _remembering(loader, kept))
        numbers = equivariance(net, torch.cat([batch.images for batch in kept])[:NO_EQUIVARIANCE_IMAGES])
        self.pictures = self._pictures(net, kept)
        reading, labels, poses = self.found
        numbers |= {"poses/confidence": float(reading.confidence.mean())}
        for name, values in self._by_class(reading.level).items():
            numbers[f"levels/mean/{name}"] = math.degrees(float(values.mean()))
            numbers[f"levels/std/{name}"] = math.degrees(float(values.std(correction=0)))
        if self.laws is not None:
            levels = score_levels(reading.level, true_levels(self.laws, labels), labels)
            numbers |= {f"levels/{name}": value for name, value in levels._asdict().items()}
            wanted = torch.tensor([FAMILIES.index(law_family(law)) for law in self.laws])[labels]
            numbers["families/accuracy"] = float((reading.family == wanted).float().mean())
        if poses is not None:
            scores = score_poses(reading.pose, poses, labels)
            numbers |= {f"poses/{name}": value for name, value in scores._asdict().items()}
        return numbers

    def words(self) -> str:
        """Return a table of the classes: true law, mean level, expected error, most frequent family."""
        if self.found is None:
            return ""
        reading = self.found.reading
        columns = zip(
            self._by_class(reading.level).items(),
            self._by_class(reading.uncertainty).values(),
            self._by_class(reading.family).values(),
            strict=True,
        )
        lines = [f"{'class':12}  {'law':12}  {'level':>8}  {'expected error':>14}  family (share)"]
        for (name, level), error, family in columns:
            law = "?" if self.laws is None else str(self.laws[self.class_names.index(name)])
            place = int(family.mode().values)
            share = float((family == place).float().mean())
            degrees = [math.degrees(float(values.mean())) for values in (level, error)]
            lines.append(
                f"{name:12}  {law:12}  {degrees[0]:8.1f}  {degrees[1]:14.1f}  {FAMILIES[place]} ({100 * share:.0f} %)"
            )
        return "\n".join([*lines, "level and expected error in degrees, means over images"])

    def artifacts(self) -> dict[str, Artifact]:
        """Return the densities of the poses, the levels, the upright images, and the numbers per class."""
        if self.found is None or self.pictures is None:
            return {}
        reading = self.found.reading
        found: dict[str, Artifact] = {"symmetry.json": self._data()}
        poses = {name: values.numpy() for name, values in self._by_class(reading.pose).items()}
        found["pose_density.png"] = pose_densities(poses, self._densities())
        if self.laws is not None:
            levels = {name: values.numpy() for name, values in self._by_class(reading.level).items()}
            true = {name: law.level for name, law in zip(self.class_names, self.laws, strict=True)}
            found["levels.png"] = level_scatter(levels, true)
        images, upright, names = self.pictures
        if images.shape[1] in (1, 3):
            found["standardised.png"] = standardised_grid(images.numpy(), upright.numpy(), names)
        return found

    def _by_class(self, values: Tensor) -> dict[str, Tensor]:
        """Return the values of the images of each class that occurs."""
        assert self.found is not None
        labels = self.found.labels
        return {name: values[labels == k] for k, name in enumerate(self.class_names) if bool((labels == k).any())}

    def _densities(self) -> dict[str, Any]:
        angles = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)
        laws = {} if self.laws is None else dict(zip(self.class_names, self.laws, strict=True))
        return {name: (angles.numpy(), law.density(angles).numpy()) for name, law in laws.items()}

    def _data(self) -> dict[str, Any]:
        """Return histograms of the poses and quantiles of the levels, in degrees, for comparisons of runs."""
        assert self.found is not None
        reading, quantiles = self.found.reading, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
        degrees = {name: torch.rad2deg(v.float()) for name, v in self._by_class(reading.level).items()}
        return {
            "pose_histogram_5_degrees_from_-180": {
                name: torch.histc(values.float(), round(2 * math.pi / BIN), -math.pi, math.pi).tolist()
                for name, values in self._by_class(reading.pose).items()
            },
            "level_quantiles_5_25_50_75_95": {name: v.quantile(quantiles).tolist() for name, v in degrees.items()},
            "laws": None if self.laws is None else [str(law) for law in self.laws],
        }

    def _pictures(self, net: SymmetryNet, kept: list[Batch]) -> tuple[Tensor, Tensor, list[str]]:
        """Return the first images of each class, and the same turned upright, as bytes."""
        images, labels = torch.cat([batch.images for batch in kept]), torch.cat([batch.labels for batch in kept])
        places = [place for k in range(len(self.class_names)) for place in (labels == k).nonzero()[:SHOWN_PER_CLASS, 0]]
        index = torch.stack(places)
        shown = upright(net, [Batch(images[index], labels[index], index)])
        return shown.raw, shown.standardised, [self.class_names[int(label)] for label in shown.labels]


def _remembering(loader: Iterable[Batch], kept: list[Batch]) -> Iterator[Batch]:
    """Yield every batch and keep the first ones, up to 1,000 images.

    Raises:
        UserError: there is no batch.
    """
    size = 0
    for batch in loader:
        if size < NO_EQUIVARIANCE_IMAGES:
            kept.append(batch)
            size += len(batch.labels)
        yield batch
    if not kept:
        raise UserError("the loader yields no images: give one with at least one batch")


def equivariance(net: SymmetryNet, images: Tensor) -> dict[str, float]:
    """Return the median error of the pose under turns, in degrees, and the mean relative change of z.

    z changes by |z(T_a x) - z(x)| / |z(x) - mean z|.
    """
    pixels = net.pixels(images)
    plain = net.autoencoder.encoder(pixels)
    spread = (plain.z - plain.z.mean(dim=0)).norm(dim=-1).clamp_min(torch.finfo(plain.z.dtype).tiny)
    numbers: dict[str, float] = {}
    for degrees in EQUIVARIANCE_DEGREES:
        angle = math.radians(degrees)
        turned = net.autoencoder.encoder(rotate_images(pixels, pixels.new_tensor(angle)))
        error = wrap(turned.pose - plain.pose - angle).abs().median()
        numbers[f"equivariance/pose_{degrees}"] = math.degrees(float(error))
        numbers[f"equivariance/z_{degrees}"] = float(((turned.z - plain.z).norm(dim=-1) / spread).mean())
    return numbers
