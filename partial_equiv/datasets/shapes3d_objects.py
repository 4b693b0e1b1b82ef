"""Ten families of small solid objects, each put together from boxes, ellipsoids and cylinders."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partial_equiv.datasets.counter import uniform

Triple = tuple[float, float, float]

DIAGONAL = 1.15
"""Of the bounding box of every object; no point of it is further from its middle than the half."""
PROPORTIONS, PART_SIZES, HUES, SATURATIONS, VALUES = range(-5, 0)  # streams; those of pairs, epochs, are not negative


class Part(NamedTuple):
    """A ball in its round axes times an interval in the others, stretched: box, cylinder or ellipsoid.

    Its points are those whose q = (p - centre) / half has |q_k| <= 1 for each flat axis k, and the sum of q_k^2 over
    the round axes at most 1. Two round axes make a cylinder along the third.

    Args:
        round: For each axis, whether it is round.
        centre: Middle.
        half: Half the extent along each axis.
        albedo: Share of red, green and blue light that is sent back, in [0, 1].
    """

    round: tuple[bool, bool, bool]
    centre: Triple
    half: Triple
    albedo: Triple


BOX, BALL = (False, False, False), (True, True, True)
ALONG_X, ALONG_Y, ALONG_Z = (False, True, True), (True, False, True), (True, True, False)

Form = tuple[tuple[bool, bool, bool], Triple, Triple]
"""Round axes, centre and half extents of a part, before it varies from object to object. z is up, y to the camera."""

FAMILIES: dict[str, tuple[Form, ...]] = {
    "chair": (
        (BOX, (0, 0, 0), (0.4, 0.4, 0.07)),
        (BOX, (0, -0.36, 0.45), (0.38, 0.06, 0.5)),
        *((BOX, (x, y, -0.36), (0.06, 0.06, 0.4)) for x in (-0.31, 0.31) for y in (-0.31, 0.31)),
    ),
    "table": (
        (BOX, (0, 0, 0.35), (0.7, 0.45, 0.07)),
        (BOX, (0.25, 0.24, 0.22), (0.26, 0.22, 0.16)),
        *((BOX, (x, y, -0.1), (0.06, 0.06, 0.5)) for x in (-0.55, 0.55) for y in (-0.34, 0.34)),
    ),
    "mug": (
        (ALONG_Z, (0, 0, 0), (0.4, 0.4, 0.5)),
        (ALONG_Z, (0, 0, 0.47), (0.3, 0.3, 0.12)),
        (BOX, (0.5, 0, 0.28), (0.25, 0.07, 0.07)),
        (BOX, (0.5, 0, -0.28), (0.25, 0.07, 0.07)),
        (BOX, (0.7, 0, 0), (0.07, 0.08, 0.36)),
    ),
    "car": (
        (BOX, (0, 0, 0), (0.8, 0.36, 0.18)),
        (BOX, (-0.2, 0, 0.28), (0.4, 0.31, 0.2)),
        *((ALONG_Y, (x, y, -0.17), (0.2, 0.1, 0.2)) for x in (-0.48, 0.48) for y in (-0.33, 0.33)),
    ),
    "plane": (
        (BALL, (0, 0, 0), (0.9, 0.17, 0.17)),
        (BOX, (0.1, 0, 0), (0.2, 0.85, 0.04)),
        (BOX, (-0.72, 0, 0.03), (0.13, 0.34, 0.04)),
        (BOX, (-0.74, 0, 0.2), (0.13, 0.04, 0.24)),
        (BALL, (0.45, 0, 0.13), (0.2, 0.1, 0.1)),
    ),
    "lamp": (
        (ALONG_Z, (0, 0, -0.72), (0.36, 0.36, 0.07)),
        (ALONG_Z, (0, 0, -0.1), (0.06, 0.06, 0.72)),
        (ALONG_Z, (0, 0, 0.55), (0.42, 0.42, 0.26)),
        (BOX, (0.2, 0, -0.62), (0.08, 0.06, 0.09)),
    ),
    "hammer": (
        (ALONG_Z, (0, 0, -0.2), (0.09, 0.09, 0.75)),
        (BOX, (0.05, 0, 0.55), (0.3, 0.14, 0.15)),
        (BOX, (-0.34, 0, 0.6), (0.22, 0.1, 0.06)),
        (ALONG_X, (0.38, 0, 0.55), (0.1, 0.19, 0.19)),
    ),
    "stairs": tuple(
        (BOX, (0.3 * step - 0.45, 0, 0.15 * step - 0.45), (0.18, 0.4, 0.15 * step + 0.15)) for step in range(4)
    ),
    "snowman": (
        (BALL, (0, 0, -0.5), (0.42, 0.42, 0.4)),
        (BALL, (0, 0, 0.08), (0.31, 0.31, 0.3)),
        (BALL, (0, 0, 0.5), (0.23, 0.23, 0.23)),
        (BALL, (0, 0.3, 0.5), (0.06, 0.22, 0.06)),
        (ALONG_Z, (0, 0, 0.76), (0.2, 0.2, 0.14)),
    ),
    "factory": (
        (BOX, (0, 0, -0.25), (0.6, 0.4, 0.3)),
        (BOX, (-0.38, 0.4, -0.38), (0.22, 0.3, 0.18)),
        (ALONG_Z, (0.42, -0.22, 0.25), (0.11, 0.11, 0.6)),
        (ALONG_Z, (0.12, -0.22, 0.15), (0.09, 0.09, 0.5)),
        (BALL, (-0.3, -0.05, 0.05), (0.22, 0.22, 0.24)),
    ),
}
NEAR_SYMMETRIC = ("lamp", "snowman")
"""Families whose pose about their axis shows in one small part alone."""


def make_object(number: int, family: str, seed: int) -> tuple[Part, ...]:
    """Return one object of a family: its proportions, the sizes of its parts and their colours vary by number.

    Each axis is stretched by a factor in [3/4, 5/4], each part about its middle by one in [17/20, 23/20]; then the
    bounding box is centred, and scaled to the common diagonal.

    Args:
        number: Of the object.
        family: Name in `FAMILIES`.
        seed: Of the data set.
    """
    forms = FAMILIES[family]
    parts = np.arange(len(forms))
    stretch = 0.75 + 0.5 * uniform(seed, PROPORTIONS, number, np.arange(3))
    sizes = 0.85 + 0.3 * uniform(seed, PART_SIZES, number, parts)
    centres = np.array([centre for _, centre, _ in forms]) * stretch
    halves = np.array([half for _, _, half in forms]) * stretch * sizes[:, None]
    low, high = (centres - halves).min(axis=0), (centres + halves).max(axis=0)
    scale = DIAGONAL / np.linalg.norm(high - low)
    centres, halves = scale * (centres - (low + high) / 2), scale * halves
    albedos = hsv_to_rgb(
        uniform(seed, HUES, number, parts),
        0.3 + 0.5 * uniform(seed, SATURATIONS, number, parts),
        0.35 + 0.6 * uniform(seed, VALUES, number, parts),
    )
    return tuple(
        Part(form[0], triple(centre), triple(half), triple(albedo))
        for form, centre, half, albedo in zip(forms, centres, halves, albedos, strict=True)
    )


def triple(numbers: Sequence[float] | NDArray[np.float64]) -> Triple:
    """Return three plain numbers."""
    one, two, three = (float(number) for number in numbers)
    return one, two, three


def hsv_to_rgb(
    hue: NDArray[np.float64], saturation: float | NDArray[np.float64], value: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return colours as red, green and blue.

    channel = value (1 - saturation clip(min(k, 4 - k), 0, 1)), k = (n + 6 hue) mod 6, n = 5, 3, 1 for red, green, blue

    Shape:
        hue, saturation, value [...] in [0, 1] -> [..., 3].
    """
    k = (np.array([5.0, 3.0, 1.0]) + 6 * np.asarray(hue)[..., None]) % 6
    dip = np.clip(np.minimum(k, 4 - k), 0, 1)
    colours: NDArray[np.float64] = np.asarray(value)[..., None] * (1 - np.asarray(saturation)[..., None] * dip)
    return colours
