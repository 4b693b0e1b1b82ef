"""Any set of upright images, turned by a law of angles.

Axes: N images of the set, B images of a batch, C channels, Y X pixels.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from partial_equiv.datasets.augmentation import ImageSource
from partial_equiv.datasets.image_set import ImageSet, Splits
from partial_equiv.datasets.info import DatasetInfo, with_notes
from partial_equiv.datasets.law import Law, brief, check_number, parse_laws
from partial_equiv.datasets.rotation import rotate_images
from partial_equiv.errors import UserError

Choice = str | Sequence[str] | None
"""A law for all classes, one for each, or no turning."""


class TurnedImages:
    """Images of a source, each turned by its own angle when it is fetched: an `ImageSource`.

    Args:
        images: The upright images.
        angles: Radians, one for each image.
    """

    def __init__(self, images: ImageSource, angles: Tensor) -> None:
        """Keep both; nothing is fetched."""
        self.images = images
        self.angles = angles

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the turned images at `index`, uint8 [B, C, Y, X]."""
        return rotate_images(self.images[index], self.angles[index])


def turn_by_laws(splits: Splits, laws: Sequence[Law], seed: int, *, turn_test: bool = True) -> Splits:
    """Return the splits with each image turned by an angle of its class's law; an image never turns twice.

    An angle is a pure function of (seed, split, position). Images in memory are turned at once, others when fetched.

    Args:
        splits: Upright images.
        laws: One for each class.
        seed: Of the data set.
        turn_test: Turn the test images too; False leaves them upright.

    Raises:
        UserError: the images are turned already, or the laws do not fit the classes.
    """
    info = with_laws(splits.info, laws)
    if not turn_test:
        info = with_notes(info, "test images upright")
    upright = (Law("none"),) * len(laws)
    chosen = (laws, laws, laws if turn_test else upright)
    sets = zip((splits.train, splits.validation, splits.test), chosen, strict=True)
    train, validation, test = (turned(s, law, seed, stream) for stream, (s, law) in enumerate(sets))
    return Splits(train, validation, test, info)


def with_laws(info: DatasetInfo, laws: Sequence[Law]) -> DatasetInfo:
    """Return the facts of a set once its images are turned.

    Raises:
        UserError: the images are turned already, or the laws do not fit the classes.
    """
    if info.laws is not None and set(info.laws) != {Law("none")}:
        raise UserError(
            f"dataset={info.name} has turned its images by {brief(info.laws)}, and dataset.law={brief(laws)} would "
            "turn them again: choose a set of upright images, or leave dataset.law out"
        )
    check_number(laws, info.no_classes)
    note = f"images turned by {brief(laws)}"
    return dataclasses.replace(with_notes(info, note), laws=tuple(laws))


def turned(images: ImageSet, laws: Sequence[Law], seed: int, stream: int) -> ImageSet:
    """Return one split with each image turned by an angle of its class's law."""
    assert images.augmentation is None, "images are turned before they are augmented"
    angles = torch.zeros(len(images), dtype=torch.float64)
    for label, law in enumerate(laws):
        index = torch.nonzero(images.labels == label)[:, 0]
        angles[index] = law.angles(index, seed=seed, stream=stream)
    source = images.images
    pixels = rotate_images(source, angles) if isinstance(source, Tensor) else TurnedImages(source, angles)
    return ImageSet(pixels, images.labels, mean=images.mean, std=images.std, poses=angles)


def takes_law(load: Callable[..., Splits]) -> Callable[..., Splits]:
    """Return the function of a data set with one more keyword: `law`, by which its images are turned.

    The keyword is part of the signature, so it is checked as all others are. It may be left out, unlike them: runs
    that were stored before there were laws lack it.
    """

    @functools.wraps(load)
    def load_and_turn(*, law: Choice = None, **keywords: Any) -> Splits:
        check_law(law, keywords)
        splits = load(**keywords)
        if law is None:
            return splits
        laws = parse_laws(law, splits.info.no_classes)
        return turn_by_laws(splits, laws, keywords["seed"], turn_test=keywords.get("turn_test", True))

    own = inspect.signature(load)
    more = inspect.Parameter("law", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Choice)
    load_and_turn.__signature__ = own.replace(parameters=[*own.parameters.values(), more])  # type: ignore[attr-defined]
    load_and_turn.__annotations__ = {**load.__annotations__, "law": Choice}
    return load_and_turn


def check_law(law: Choice, keywords: Mapping[str, Any]) -> None:
    """Check what can be told of a law before a file is read.

    Args:
        law: The chosen one.
        keywords: Those of the data set's own function.

    Raises:
        UserError: a text that names no law, or images that other keys turn already.
    """
    if law is None:
        return
    parse_laws(law, 1 if isinstance(law, str) else len(law))
    for key, neutral in (("rot_interval", "0"), ("rot_normal", "null")):
        if keywords.get(key):
            value = keywords[key]
            raise UserError(
                f"dataset.{key}={value} and dataset.law={law} would both turn the images: add dataset.{key}={neutral}, "
                "or leave dataset.law out"
            )
