"""SymmetryLevel: learn, for every image, how far images like it turn, from the poses of its neighbours.

Axes: N images of the training set, B batch, k neighbours, d latent numbers, F families.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.datasets import Batch, rotate_images
from partial_equiv.menu import choose
from partial_equiv.nets import NORMAL, UNIFORM, Code, SymmetryNet
from partial_equiv.objectives.objective import Objective, Step
from partial_equiv.symmetry import (
    FAMILIES,
    PUBLISHED_ESTIMATORS,
    Neighbourhood,
    cyclic_order_published,
    estimate,
    likeliest_noise,
    nearest_neighbours,
    noise_floor,
    wrap,
)

NO_NOISE_IMAGES = 1_000
NOISE_ANGLES = tuple(math.radians(degree) for degree in (30, 45, 77))
LIKELIHOOD, CYCLIC, NO_ORDERS = "likelihood", "cyclic", 8


class Bank(NamedTuple):
    """The training images as their neighbours see them: z [N, d] and pose [N], in the order of their index."""

    z: Tensor
    pose: Tensor


class SymmetryLevel(Objective):
    """Regress what the k nearest images in z say of the law of poses around an image.

    `prepare` encodes the training set once and stores, for every image, the estimate of its neighbours as its target;
    images of other sets get theirs from the same neighbours. The network sees one image at a time and is invariant, so
    that its answer is the mean over an orbit of noisy targets.

    With a published estimator: mean squared error in degrees, or cross entropy for cyclic orders. Else: Laplace
    likelihood of both levels (their median, with an expected error), cross entropy with the posterior of the families,
    and 1 - cos of the error of the centre.

    Args:
        model: The network; only its head is trained, the autoencoder stays in evaluation mode.
        no_neighbours: k.
        estimator: "likelihood", or a published one by name.
        corrections: Switches of "likelihood", see `partial_equiv.symmetry.estimate`.
    Raises:
        UserError: an unknown estimator, or fewer images than neighbours.
    Source: Urbano & Romero 2023, section 3.2. Differs: "likelihood" and its corrections; validation images get their
        targets from the training images instead of one pool.
    """

    monitor = "loss"
    mode = "min"

    def __init__(
        self, model: SymmetryNet, *, no_neighbours: int, estimator: str, corrections: Mapping[str, Any]
    ) -> None:
        super().__init__()
        choose(dict.fromkeys([LIKELIHOOD, CYCLIC, *PUBLISHED_ESTIMATORS]), estimator, "train.estimator")
        self.model: SymmetryNet = model
        self.no_neighbours, self.estimator, self.corrections = no_neighbours, estimator, dict(corrections)
        self.bank: Bank | None = None
        self.targets: Neighbourhood | None = None
        self.noise = 0.0

    def train(self, mode: bool = True) -> Self:
        """Train the head alone: running statistics of the autoencoder must not follow."""
        super().train(mode)
        self.model.autoencoder.eval()
        return self

    @torch.no_grad()
    def prepare(self, loader: Iterable[Batch]) -> None:
        """Encode the training images and find what their neighbours say."""
        self.train(False)
        device = self.model.mean.device
        codes, places, differences = [], [], []
        for batch in loader:
            pixels = self.model.pixels(batch.images.to(device))
            code: Code = self.model.autoencoder.encoder(pixels)
            codes.append((code.z, code.pose))
            places.append(batch.index.to(device))
            measured = places[-1] < NO_NOISE_IMAGES  # by place, so that a resumed run measures the same images
            if bool(measured.any()):
                poses = code.pose[measured]
                differences += [self.difference(pixels[measured], poses, angle) for angle in NOISE_ANGLES]
        order = torch.cat(places).argsort()
        self.bank = Bank(*(torch.cat(column)[order] for column in zip(*codes, strict=True)))
        neighbours = nearest_neighbours(self.bank.z, self.no_neighbours).index
        self.noise = self.pose_noise(torch.cat(differences), neighbours)
        self.targets = self.estimate(neighbours)
        self.train(True)

    def difference(self, pixels: Tensor, poses: Tensor, angle: float) -> Tensor:
        """Return psi(T_a x) - psi(x) - a: 0 were the encoder exactly equivariant."""
        turned = self.model.autoencoder.encoder(rotate_images(pixels, pixels.new_tensor(angle)))
        return wrap(turned.pose - poses - angle)

    def pose_noise(self, differences: Tensor, neighbours: Tensor) -> float:
        """Return the deviation of a pose: what turned copies show, or more if the neighbours' poses call for it."""
        assert self.bank is not None
        floor = noise_floor(differences)
        if self.estimator != LIKELIHOOD or not self.corrections["noise_correction"]:
            return floor
        evenly = torch.linspace(0, len(neighbours) - 1, min(NO_NOISE_IMAGES, len(neighbours))).round().long()
        poses = self.bank.pose[neighbours[evenly.to(neighbours.device)]]
        return likeliest_noise(poses, floor, trimming=self.corrections["trimming"])

    def estimate(self, neighbours: Tensor) -> Neighbourhood:
        """Return what neighbours [B, k], as places in the bank, say."""
        assert self.bank is not None
        poses = self.bank.pose[neighbours]
        if self.estimator == LIKELIHOOD:
            return estimate(poses, noise=self.noise, **self.corrections)
        return published(poses, self.estimator)

    def forward(self, batch: Batch) -> Step:
        """Return the loss of a batch, and the mean absolute error of its levels in degrees."""
        pixels = self.model.pixels(batch.images)
        z, target = self.target(batch, pixels)
        prediction = self.model.predict(pixels, z)
        levels = torch.stack([target.uniform, target.normal], dim=-1)
        errors = (prediction.levels - levels).abs()
        agreement = (prediction.logits.argmax(dim=-1) == target.family).float().mean()
        if self.estimator == CYCLIC:
            loss = functional.cross_entropy(self.model.restricted(prediction.logits), target.family)
        elif self.estimator != LIKELIHOOD:
            errors = errors[:, law_place(self.estimator)]
            loss = torch.rad2deg(errors).square().mean()
        else:
            loss = (errors / prediction.spreads + prediction.spreads.log()).mean()
            loss = loss + functional.cross_entropy(prediction.logits, target.posterior)
            middle = torch.stack([target.centre.cos(), target.centre.sin()], dim=-1)
            loss = loss + (1 - functional.cosine_similarity(prediction.centre, middle, dim=-1)).mean()
        metrics = {"level_error": torch.rad2deg(errors.detach()).mean(), "family_agreement": agreement}
        return Step(loss, metrics, len(pixels))

    @torch.no_grad()
    def target(self, batch: Batch, pixels: Tensor) -> tuple[Tensor, Neighbourhood]:
        """Return z and targets: stored ones of training images; those of the nearest training images for all others."""
        assert self.bank is not None and self.targets is not None, "prepare first"
        if self.training:
            return self.bank.z[batch.index], Neighbourhood(*(column[batch.index] for column in self.targets))
        z = self.model.autoencoder.encoder(pixels).z
        return z, self.estimate(nearest_neighbours(z, self.no_neighbours, bank=self.bank.z).index)


def law_place(estimator: str) -> int:
    """Return which of the two levels a published estimator is of."""
    return NORMAL if estimator.startswith("gaussian") else UNIFORM


def published(poses: Tensor, estimator: str) -> Neighbourhood:
    """Return what a published estimator says of poses [B, k]: one level, or for "cyclic" one family."""
    zero = poses.new_zeros(len(poses))
    if estimator == CYCLIC:
        names = [FAMILIES.index("none" if order == 1 else f"C{order}") for order in range(1, NO_ORDERS + 1)]
        family = torch.tensor(names, device=poses.device)[cyclic_order_published(poses, NO_ORDERS) - 1]
        level = zero
    else:
        name = "normal" if law_place(estimator) == NORMAL else "uniform"
        family = torch.full_like(zero, FAMILIES.index(name), dtype=torch.int64)
        level = PUBLISHED_ESTIMATORS[estimator](poses)
    posterior = functional.one_hot(family, len(FAMILIES)).to(poses.dtype)
    return Neighbourhood(centre=zero, uniform=level, normal=level, posterior=posterior, family=family)
