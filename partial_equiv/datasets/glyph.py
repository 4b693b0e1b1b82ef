"""One drawn picture and its quarter turn: can a network tell an image from itself, turned?

A network whose grid is exact for right angles answers alike for both, so its loss stays at ln 2 for ever.
"""

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, check_copies, sized, with_notes
from partial_equiv.datasets.npz import moments
from partial_equiv.datasets.split import Labelled, assemble

FACTS = DatasetInfo(
    name="glyph",
    in_channels=1,
    no_classes=2,
    size=(32, 32),
    mean=(0.0,),
    std=(1.0,),
    class_names=("as it is", "turned"),
    no_train=2,
    no_validation=2,
    no_test=2,
)
NOTE = "one image and its quarter turn, for training, validation and test alike"
NO_STROKES = 5
STROKE, HATCH, GRAIN = range(3)  # streams of random numbers


def load_glyph(*, size: int, copies: int, seed: int) -> Splits:
    """Return a drawn grey image (class 0) and its counter-clockwise quarter turn (class 1).

    All splits hold this one pair, and `info.note` says so: the question is what can be learned, not what generalises.

    Args:
        size: Side in pixels, 8 to 256.
        copies: How often the pair is repeated in training; validation and test hold it once.
        seed: Of the drawing.

    Raises:
        UserError: a value out of range.
    Source: Edixhoven, Lengyel & van Gemert 2023, learned un-equivariance. Differs: a drawn image, not a sprite.
    """
    facts = sized(FACTS, size)
    check_copies(copies, 2, size * size, "repetitions of the pair")
    image = draw_glyph(size, seed)
    pair = torch.stack([image, torch.rot90(image, 1, dims=(-2, -1))])
    mean, std = moments(pair)

    def repeated(no_copies: int) -> Labelled:
        return Labelled(pair.repeat(no_copies, 1, 1, 1), torch.arange(2).repeat(no_copies))

    info = with_notes(dataclasses.replace(facts, mean=mean, std=std), NOTE)
    return assemble(info, repeated(copies), repeated(1), repeated(1))


def draw_glyph(size: int, seed: int) -> Tensor:
    """Return a grey image with no symmetry: smooth strokes, hatching of the upper half, and grain.

    The strokes scale with the image. Hatching and grain are as fine as the pixels: even and odd columns have different
    means, so what a subsampled grid sees depends on where it starts.

    Shape:
        -> uint8 [1, size, size].
    """
    centres = (np.arange(size) + 0.5) / size
    rows, columns = np.meshgrid(centres, centres, indexing="ij")
    ends = uniform(seed, STROKE, np.arange(4 * NO_STROKES)).reshape(NO_STROKES, 2, 2)
    strokes = np.max([stroke(rows, columns, start, end) for start, end in 0.1 + 0.8 * ends], axis=0)
    slope, phase = uniform(seed, HATCH, np.arange(2))
    wave = np.cos(math.pi * (np.arange(size) + (slope * rows + phase) / 4))
    hatching = np.where(rows < 0.5, wave, 0)
    grain = uniform(seed, GRAIN, np.arange(size * size)).reshape(size, size) - 0.5
    image = 0.3 + 0.4 * strokes + 0.15 * hatching + 0.2 * grain
    return torch.from_numpy(np.rint(255 * image.clip(0, 1)).astype(np.uint8))[None]


def stroke(
    rows: NDArray[np.float64], columns: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the brightness exp(-(distance / width)^2) of one line, with a width of 0.05 of the side."""
    points = np.stack([rows, columns], axis=-1) - start
    along = end - start
    share = ((points @ along) / max(float(along @ along), 1e-12)).clip(0, 1)
    distance = np.linalg.norm(points - share[..., None] * along, axis=-1)
    brightness: NDArray[np.float64] = np.exp(-((distance / 0.05) ** 2))
    return brightness
