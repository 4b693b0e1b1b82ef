"""Crop, mirror and colour jitter of a batch, each image by its own recorded parameters.

Axes: B images, A draws of an image, T tries of a box, C channels, Y X pixels, P = 15 parameters. Pixels are float32 in
[0, 255], and never rounded.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.info import CropLaw

Array = NDArray[np.float64]
CROP = ("crop_top", "crop_left", "crop_height", "crop_width")
ORDER = ("order_brightness", "order_contrast", "order_saturation", "order_hue")
AMOUNT = ("brightness", "contrast", "saturation", "hue")
PARAMETERS = (*CROP, "flip", "jitter", *ORDER, *AMOUNT, "gray")
"""Box in pixels; mirrored or not; jittered or not, the place of each change among the four, three factors and a shift
of the hue in turns; made grey or not."""
NO_TRIES = 10  # boxes drawn until one fits into the image
NO_DRAWS = 2 * NO_TRIES + 13  # uniform numbers that an augmentation takes
NO_MEASURED = 1 << 15  # draws that mean and deviation of the parameters are taken from
LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordedLaw:
    """How an augmentation is drawn; its parts are independent.

    Args:
        crop: Ranges of the box: area as a share of the image's, width over height.
        flip: Probability of a left-right mirror.
        jitter: Probability of a jitter of the colours.
        factors: Bounds b of brightness, contrast and saturation: each factor is uniform in 1 +- b.
        hue: Bound of the shift of the hue, in turns: uniform in +- hue.
        gray: Probability that the colours are taken away.
    """

    crop: CropLaw
    flip: float
    jitter: float
    factors: tuple[float, float, float]
    hue: float
    gray: float


SIMCLR = RecordedLaw(
    crop=CropLaw(area=(0.08, 1), aspect=(3 / 4, 4 / 3)),
    flip=0.5,
    jitter=0.8,
    factors=(0.4, 0.4, 0.4),
    hue=0.1,
    gray=0.2,
)
"""Chen et al. 2020 for CIFAR10: colour strength 0.5, no blur."""


def neutral_parameters(size: tuple[int, int]) -> Tensor:
    """Return the parameters of the image as it is, float64 [P].

    Args:
        size: Height and width of the image.
    """
    box, order, amount = (0, 0, *size), range(len(ORDER)), (1, 1, 1, 0)
    return torch.tensor([*box, 0, 0, *order, *amount, 0], dtype=torch.float64)


def draw_parameters(
    index: Tensor, *, law: RecordedLaw, size: tuple[int, int], in_colour: bool, no_draws: int, seed: int, epoch: int
) -> Tensor:
    """Return the parameters of each image's augmentations, as a pure function of (seed, epoch, index).

    What has no effect is neutral: order and amounts where there is no jitter; saturation, hue and gray where there is
    no colour. An image that is made grey keeps what was drawn before.

    Args:
        index: Positions of the images.
        law: Of the augmentation.
        size: Height and width of the images.
        in_colour: Whether they have three channels.
        no_draws: Augmentations of each image, A.
        seed: Of the run.
        epoch: Of the run.
    Shape:
        index int64 [B] -> float64 [B, A, P].
    """
    views = np.arange(no_draws)[:, None]
    numbers = uniform(seed, epoch, index.numpy()[:, None, None], views, np.arange(NO_DRAWS))
    areas, aspects, places, order, amounts, coins = np.split(numbers, np.cumsum([NO_TRIES, NO_TRIES, 2, 4, 4]), axis=-1)
    box = draw_boxes(areas, aspects, places, law.crop, size)
    flip, jitter, gray = np.split(coins < (law.flip, law.jitter, law.gray if in_colour else 0), 3, axis=-1)
    neutral = neutral_parameters(size).numpy()
    middle, bounds = (1, 1, 1, 0), np.array([*law.factors, law.hue])
    if not in_colour:
        bounds = bounds * (1, 1, 0, 0)
    ranks = np.argsort(order, axis=-1)  # of independent uniform numbers: every order is as likely
    drawn = np.concatenate([ranks, middle + bounds * (2 * amounts - 1)], axis=-1)
    changes = np.where(jitter, drawn, neutral[6:14])
    return torch.from_numpy(np.concatenate([box, flip, jitter, changes, gray], axis=-1))


def draw_boxes(areas: Array, aspects: Array, places: Array, law: CropLaw, size: tuple[int, int]) -> Array:
    """Return top, left, height and width of a random box of each image, by numbers in [0, 1).

    The area is uniform, as is the logarithm of width over height, and the place. The first of the tries that fits into
    the image counts, else the largest central box of an allowed aspect.

    Shape:
        areas and aspects [..., T], places [..., 2] -> [..., 4], whole numbers.
    Source: Szegedy et al. 2015, with torchvision's fallback. Differs: one place for all tries, which changes no law.
    """
    (least, most), (narrow, wide), (height, width) = law.area, law.aspect, size
    area, aspect = height * width * (least + (most - least) * areas), narrow * (wide / narrow) ** aspects
    rows, columns = np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))
    fits = (rows > 0) & (rows <= height) & (columns > 0) & (columns <= width)
    first, found = fits.argmax(axis=-1, keepdims=True), fits.any(axis=-1, keepdims=True)
    sides = np.concatenate([np.take_along_axis(each, first, axis=-1) for each in (rows, columns)], axis=-1)
    central = np.array([min(height, round(width / narrow)), min(width, round(height * wide))])
    free = np.array(size) - np.where(found, sides, central)
    corner = np.where(found, np.floor(places * (free + 1)), free // 2)
    return np.concatenate([corner, np.where(found, sides, central)], axis=-1)


@functools.lru_cache(maxsize=8)
def standardisation(law: RecordedLaw, size: tuple[int, int], in_colour: bool) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each parameter, float64 [P]; a parameter that never varies has deviation 1.

    They are measured on a fixed sample of the law, to 1/180 of a deviation.
    """
    sample = draw_parameters(
        torch.arange(NO_MEASURED), law=law, size=size, in_colour=in_colour, no_draws=1, seed=0, epoch=0
    )[:, 0]
    deviation = sample.std(dim=0)
    return sample.mean(dim=0), torch.where(deviation == 0, 1.0, deviation)


def augment(images: Tensor, parameters: Tensor) -> Tensor:
    """Return the images after crop and mirror, jitter, and loss of colour, in this order.

    Shape:
        images [B, C, Y, X], parameters [B, P] -> [B, C, Y, X].
    """
    flip, jitter, gray = (parameters[:, PARAMETERS.index(name)] > 0 for name in ("flip", "jitter", "gray"))
    changed = crop_flip(images, parameters[:, :4].to(images), flip)
    change_colours(changed, jitter, parameters[:, 6:10].long(), parameters[:, 10:14].to(images))
    if images.shape[1] == len(LUMA):
        change_some(changed, gray, take_colour)
    return changed


def crop_flip(images: Tensor, boxes: Tensor, flip: Tensor) -> Tensor:
    """Return a box of each image, resized to the size of the image, and mirrored left-right where `flip` says so.

    out(x) = in(left + (x + 1/2) width / X - 1/2), bilinear; no pixel outside the box counts. Boxes only ever grow, so
    nothing aliases.

    Shape:
        images [B, C, Y, X], boxes [B, 4] as top, left, height and width, flip bool [B] -> [B, C, Y, X].
    """
    top, left, rows, columns = boxes[:, :, None].unbind(1)
    height, width = images.shape[-2:]
    y, x = (torch.arange(side, dtype=images.dtype, device=images.device) + 0.5 for side in (height, width))
    y = top + (y * rows / height).clamp(min=0.5).minimum(rows - 0.5)
    x = left + (torch.where(flip[:, None], width - x, x) * columns / width).clamp(min=0.5).minimum(columns - 0.5)
    y, x = 2 * y / height - 1, 2 * x / width - 1
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def change_colours(images: Tensor, jitter: Tensor, ranks: Tensor, amounts: Tensor) -> None:
    """Change brightness, contrast, saturation and hue in place, each image in its own order.

    Args:
        images: With a number of channels other than 3 there is no colour: saturation and hue stay.
        jitter: Which images change.
        ranks: Place of each change among the four, 0 to 3.
        amounts: Three factors, and a shift of the hue in turns.
    Shape:
        images [B, C, Y, X], jitter bool [B], ranks int64 [B, 4], amounts [B, 4].
    """
    changes = (change_brightness, change_contrast, change_saturation, change_hue)
    no_changes = 4 if images.shape[1] == len(LUMA) else 2
    for place in range(len(ORDER)):
        for number, change in enumerate(changes[:no_changes]):
            change_some(images, jitter & (ranks[:, number] == place), change, amounts[:, number, None, None, None])


def change_some(images: Tensor, some: Tensor, change: Callable[..., Tensor], *amounts: Tensor) -> None:
    """Change some images in place: those alone on the CPU, elsewhere all of them, of which some are kept.

    A device does not know how many there are before it has counted, and the host would wait for that.

    Args:
        images: All.
        some: Which change.
        change: images [B, C, Y, X], amounts [B, 1, 1, 1] -> images.
        amounts: Of all images.
    Shape:
        images [B, C, Y, X], some bool [B], amounts [B, 1, 1, 1].
    """
    if not images.is_cpu:
        change_masked(images, some, change, *amounts)
    elif len(chosen := some.nonzero()[:, 0]):
        taken = (each.index_select(0, chosen) for each in (images, *amounts))
        images.index_copy_(0, chosen, change(*taken))


def change_masked(images: Tensor, some: Tensor, change: Callable[..., Tensor], *amounts: Tensor) -> None:
    """Change some images in place without counting them; for the arguments see `change_some`."""
    torch.where(some[:, None, None, None], change(images, *amounts), images, out=images)


def brightness_of(images: Tensor) -> Tensor:
    """Return the brightness, [B, C, Y, X] -> [B, 1, Y, X]: of three colours as ITU-R 601 weighs them, else the mean."""
    if images.shape[1] != len(LUMA):
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    brightness: Tensor = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return brightness


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return factor * images + (1 - factor) * other, within the range of pixels."""
    return torch.lerp(other, images, factor).clamp_(0, 255)


def change_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Return factor * image, within the range of pixels; images [B, C, Y, X], factor [B, 1, 1, 1]."""
    return (images * factor).clamp_(0, 255)


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Return the images pulled to, or pushed from, their mean brightness; images [B, C, Y, X], factor [B, 1, 1, 1]."""
    return blend(images, brightness_of(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def take_colour(images: Tensor) -> Tensor:
    """Return the images in grey, [B, 3, Y, X] -> the same."""
    return brightness_of(images).expand(-1, len(LUMA), -1, -1)


def change_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Return the images pulled to, or pushed from, grey; images [B, 3, Y, X], factor [B, 1, 1, 1]."""
    return blend(images, brightness_of(images), factor)


def change_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Return the images with every hue turned, in the coordinates hue, saturation and value.

    Shape:
        images [B, 3, Y, X], shift [B, 1, 1, 1] in turns -> [B, 3, Y, X].
    """
    red, green, blue = images.unbind(1)
    value, low = images.amax(dim=1), images.amin(dim=1)
    chroma = value - low
    safe = chroma.clamp(min=torch.finfo(chroma.dtype).tiny)
    # A branch for each pixel costs more than all three answers, and lerp by 0 or 1 picks one exactly.
    hue = torch.lerp((red - green).div_(safe).add_(4), (blue - red).div_(safe).add_(2), equal(value, green))
    hue = torch.lerp(hue, (green - blue).div_(safe), equal(value, red))
    hue = hue.add_(6 * shift[:, 0]).remainder_(6)  # in sixths of a turn, red is 0
    parts = ((hue - 3).abs_().sub_(1), (hue - 2).abs_().neg_().add_(2), (hue - 4).abs_().neg_().add_(2))
    return torch.stack([part.clamp_(0, 1).mul_(chroma).add_(low) for part in parts], dim=1)


def equal(one: Tensor, other: Tensor) -> Tensor:
    """Return 1 where two tensors are equal and 0 elsewhere, as numbers of their own kind."""
    return torch.eq(one, other, out=torch.empty_like(one))
