"""Is a set of images distributed as its own turned or mirrored self? A classifier two-sample test, before any training.

Axes: N images, C channels, Y X pixels, K radii, F = C K rings, M angular orders.
"""

import re
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.errors import UserError
from partial_equiv.groups import FULL_TURN, PlanarGroup, make_group

Harmonics = NDArray[np.complex64]
"""Rings of each image as Fourier series in the angle, [N, F, M]: orders 1 to M."""

FEWEST = 40
"""Images that a test needs: ten to learn from and ten to be judged by, untouched and moved."""

MOST = 2000
"""Images that a test looks at, unless told: more take longer, and see ever smaller flaws of the pixel grid."""

NO_PERMUTATIONS = 9_999
SMALLEST = 8  # pixels
NO_RADII, NO_ANGLES, NO_ORDERS = 8, 64, 12
BLUR = 0.1  # of the half side: standard deviation of the average around each point of a ring
RIM = 2.0  # in blurs: the outermost ring keeps this far from the frame, which is not round
GRAIN = 0.1 / 255  # a tenth of a grey level
CHUNK = 256  # images transformed at once
NAMES = {"SO2": "SE2", "O2": "E2"}  # translations play no part here


class TwoSample(NamedTuple):
    """Result of a two-sample test.

    Args:
        statistic: Area under the ROC curve of the held-out scores; 1/2 for samples that cannot be told apart.
        p_value: Of this one test: chance of such a statistic, or a larger one, on a symmetric set.
        accuracy: Share of held-out images that the classifier put into the right sample.
        no_images: Images that were used, half of them moved, half of them held out.
    """

    statistic: float
    p_value: float
    accuracy: float
    no_images: int


def two_sample_test(
    images: Tensor, group: str, *, seed: int, no_permutations: int = NO_PERMUTATIONS, no_images: int = MOST
) -> TwoSample:
    """Test whether the law of the images is unchanged by the moves of a group.

    H0: x ~ g x for every g of the group. Half of the images are moved, each by its own g, uniform over the group; for a
    finite group the identity is left out, which changes H0 in nothing and doubles what C2 and D1 show. A support vector
    machine learns half of both samples; its scores s of the other half give the area under the ROC curve A and
    p = (1 + #{A* >= A}) / (1 + no_permutations), A* under shuffled sample names. No image is in two of the four parts.
    Exact: on a symmetric set, P(p <= a) <= a for every a, however well or badly the classifier learns.

    No move interpolates. Both samples are averaged onto rings around the centre once, with a Gaussian that blurs away
    the pixel grid; on rings a turn is a phase and a mirror a conjugation. So images that were turned on the grid before
    do not betray themselves by their smoothness. What lies outside the inscribed disc is not looked at.

    Args:
        images: At least 40, of 8 pixels or more a side.
        group: C<n>, D<n> (D1 is the left-right mirror), SO2 or O2.
        seed: Of the draw of images, their moves and the permutations.
        no_permutations: Of the sample names; the smallest p-value is 1 / (1 + no_permutations).
        no_images: Largest number of images used; they are drawn without replacement.
    Shape:
        images uint8 [N, C, Y, X].

    Raises:
        UserError: fewer than 40 images, constant ones, another dtype or shape, an unknown group, or images that are
            not square where the group has turns other than 180 degrees.
    Source: Lopez-Paz & Oquab 2017; Lawrence et al. 2025 for symmetry. Differs: rings, exact p-value, no identity.
    """
    check(images, group)
    if no_images < FEWEST:
        raise UserError(f"no_images={no_images} is too few for a symmetry test: give {FEWEST} or more")
    rings = harmonics(images, seed=seed, no_images=no_images)
    return compare(rings, group, stream(seed, group), no_permutations)


def check(images: Tensor, group: str) -> None:
    """Refuse images that cannot be tested for `group`.

    Raises:
        UserError: as `two_sample_test`.
    """
    if images.dim() != 4 or images.dtype != torch.uint8:
        raise UserError(f"a symmetry test takes uint8 images [N,C,Y,X], got {images.dtype} {list(images.shape)}")
    height, width = images.shape[-2:]
    if len(images) < FEWEST:
        raise UserError(f"a symmetry test needs at least {FEWEST} images, got {len(images)}: give it more of the set")
    if min(height, width) < SMALLEST:
        raise UserError(f"a symmetry test needs {SMALLEST} pixels a side, got {height}x{width}: resize the images")
    if height != width and planar(group).no_turns not in (1, 2):
        raise UserError(
            f"{group} turns {height}x{width} images out of their frame: crop them to squares, or test C2 and D1 alone"
        )
    if bool((images.flatten(1).amax(1) == images.flatten(1).amin(1)).all()):
        raise UserError(f"all {len(images)} images are constant, so every move leaves them as they are: give others")


def planar(group: str) -> PlanarGroup:
    """Return the turns and mirrors called `group`.

    Raises:
        UserError: no such group, or one without a move.
    """
    name = NAMES.get(group, group)
    if name == group and (group == "C1" or not re.fullmatch(r"[CD][1-9]\d{0,3}", group)):
        raise UserError(f"group {group!r} has no moves to test: give C<n> from C2, D<n> from D1, SO2 or O2")
    return make_group(name)


def stream(seed: int, *words: str) -> np.random.Generator:
    """Return random numbers of their own for a seed and a purpose."""
    return np.random.default_rng([seed & (1 << 64) - 1, *(byte for word in words for byte in word.encode())])


def harmonics(images: Tensor, *, seed: int, no_images: int) -> Harmonics:
    """Draw images, average them onto rings and blur what rounding could tell; arguments as of `two_sample_test`.

    The grain is noise of a tenth of a grey level, which no move changes in law.

    Shape:
        images uint8 [N, C, Y, X] -> complex64 [min(N, no_images), F, M].
    """
    if len(images) > no_images:
        images = images[torch.from_numpy(stream(seed, "images").permutation(len(images))[:no_images])]
    rings = ring_series(images)
    real, imaginary = stream(seed, "grain").standard_normal((2, *rings.shape), dtype=np.float32) * np.float32(GRAIN)
    return np.asarray(rings + real + 1j * imaginary, np.complex64)


def ring_series(images: Tensor) -> Harmonics:
    """Average images onto rings, and each ring into its Fourier series.

    c[k, m] = sqrt(r_k) mean_t e^{-i m t} (G * x)(r_k cos t, r_k sin t), G a Gaussian of a tenth of the half side, a
    pixel at least. A turn by a makes it e^{-i m a} c, a left-right mirror (-1)^m conj(c). m = 0, which no move
    changes, is left out.

    Shape:
        images uint8 [N, C, Y, X] -> complex64 [N, F, M].
    """
    waves = ring_waves(*images.shape[-2:])
    chunks = [images[i : i + CHUNK].flatten(2).float() / 255 @ waves for i in range(0, len(images), CHUNK)]
    real, imaginary = torch.cat(chunks).numpy().reshape(len(images), -1, NO_ORDERS, 2).transpose(3, 0, 1, 2)
    return np.asarray(real + 1j * imaginary, np.complex64)


def ring_waves(height: int, width: int) -> Tensor:
    """Return the linear map of `harmonics`, float32 [Y X, 2 K M]: real and imaginary parts last."""
    half = min(height, width) / 2
    blur = max(1.0, BLUR * half)
    radii = (np.arange(NO_RADII) + 0.5) / NO_RADII * (half - RIM * blur)
    angles = np.arange(NO_ANGLES) * FULL_TURN / NO_ANGLES
    right = np.arange(width) - (width - 1) / 2
    up = (height - 1) / 2 - np.arange(height)
    beside = bumps(np.outer(radii, np.cos(angles)), right, blur)  # [K, angles, X]
    above = bumps(np.outer(radii, np.sin(angles)), up, blur)  # [K, angles, Y]
    series = np.exp(-1j * np.outer(np.arange(1, NO_ORDERS + 1), angles)) / NO_ANGLES
    rows = np.einsum("k,mt,kty->kmty", np.sqrt(radii), series, above)
    waves = np.einsum("kmty,ktx->yxkm", rows, beside, optimize=True)
    return torch.from_numpy(np.stack([waves.real, waves.imag], -1).reshape(height * width, -1)).float()


def bumps(centres: NDArray[np.floating], pixels: NDArray[np.floating], blur: float) -> NDArray[np.float64]:
    """Return Gaussian weights of pixels around each centre, along one axis, with sum 1."""
    weights = np.exp(-0.5 * ((centres[..., None] - pixels) / blur) ** 2)
    return np.asarray(weights / weights.sum(-1, keepdims=True), np.float64)


def moved(rings: Harmonics, group: PlanarGroup, generator: np.random.Generator) -> Harmonics:
    """Move each image by its own uniform element of the group, without the identity where the group is finite."""
    if group.no_turns is None:
        turns = generator.uniform(0, 1, len(rings))
        mirrored = generator.integers(0, 1 + group.mirror, len(rings))
    else:
        elements = generator.integers(1, group.no_turns * (1 + group.mirror), len(rings))
        turns, mirrored = elements % group.no_turns / group.no_turns, elements // group.no_turns
    return acted(rings, FULL_TURN * turns, mirrored)


def acted(rings: Harmonics, angles: NDArray[np.floating], mirrored: NDArray[np.integer]) -> Harmonics:
    """Mirror left-right the rings where told, then turn them by their angles; [N, F, M], [N], [N]."""
    orders = np.arange(1, NO_ORDERS + 1)
    reflected = np.where(mirrored[:, None, None], rings.conj() * (-1.0) ** orders, rings)
    return np.asarray(reflected * np.exp(-1j * orders * angles[:, None, None]), np.complex64)


def compare(rings: Harmonics, group: str, generator: np.random.Generator, no_permutations: int) -> TwoSample:
    """Test images that `harmonics` has averaged onto rings, as `two_sample_test` says."""
    from sklearn.svm import SVC

    quarter = len(rings) // 4
    parts = generator.permutation(len(rings))[: 4 * quarter].reshape(2, 2, quarter)
    names = np.repeat([1, 0], quarter)
    learned, judged = (
        features(np.concatenate([rings[plain], moved(rings[other], planar(group), generator)]))
        for plain, other in parts
    )
    scores = SVC().fit(learned, names).decision_function(judged)
    area, p_value = area_and_p_value(scores, names, generator, no_permutations)
    return TwoSample(area, p_value, float(((scores > 0) == names).mean()), 4 * quarter)


def features(rings: Harmonics) -> NDArray[np.float32]:
    """Return real and imaginary parts side by side, [N, 2 F M]."""
    return np.concatenate([rings.real, rings.imag], -1).reshape(len(rings), -1)


def area_and_p_value(
    scores: NDArray[np.float64], names: NDArray[np.int64], generator: np.random.Generator, no_permutations: int
) -> tuple[float, float]:
    """Return the area under the ROC curve, ties counted half, and the share of shuffled names with no smaller one.

    Shape:
        scores [N], names [N] of 0 and 1.
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # slow to import

    ranks = rankdata(scores)  # midranks: multiples of 1/2, so sums are exact and ties are ties
    no_plain = int(names.sum())
    observed = ranks[names == 1].sum()
    shuffled = np.array([generator.permutation(ranks)[:no_plain].sum() for _ in range(no_permutations)])
    area = (observed - no_plain * (no_plain + 1) / 2) / (no_plain * (len(names) - no_plain))
    return float(area), float((1 + (shuffled >= observed).sum()) / (1 + no_permutations))
