"""The embedded default: 1,797 real handwritten digits that ship with scikit-learn, turned at random."""

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, check_copies, plan, sized, turned_note, with_notes
from partial_equiv.datasets.law import laws_of_turns
from partial_equiv.datasets.rotation import random_angles, rotate_images
from partial_equiv.datasets.split import Labelled, assemble, cut

FACTS = DatasetInfo(
    name="digits",
    in_channels=1,
    no_classes=10,
    size=(28, 28),
    mean=(0.162,),
    std=(0.289,),
    class_names=tuple("0123456789"),
    no_train=1_397,
    no_validation=0,
    no_test=400,
    laws=laws_of_turns(10, 0),
)


def load_digits(
    *,
    size: int,
    rot_interval: float,
    copies: int,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return the digits, upsampled, each turned by a seeded angle uniform in +-rot_interval.

    A source image and all its copies are in one split: 400 sources are drawn for test, validation is cut from the rest.
    The 8x8 digits are enlarged to size/sqrt(2) and framed by zeros, so that no angle cuts their corners off.

    Args:
        size: Side in pixels, 8 to 256.
        rot_interval: Degrees, 0 to 180; 180 is the full circle.
        copies: Differently turned copies of each training image; validation and test have one each.
        no_train: Source images for training; None is all that validation leaves.
        no_validation: Source images held out; None is a tenth.
        no_test: Test images; None is all 400.
        seed: Of split and angles.

    Raises:
        UserError: a value out of range.
    Source: Kaynak 1995 (UCI optical recognition of handwritten digits, test part); CC BY 4.0.
    """
    facts = dataclasses.replace(sized(FACTS, size), laws=laws_of_turns(FACTS.no_classes, rot_interval))
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    check_digit_copies(copies, planned)
    upright, labels = read_upright(size)
    sources = torch.randperm(len(labels), generator=generator(seed))
    positions = cut(FACTS, planned, seed)

    def turned(index: Tensor, no_copies: int = 1) -> Labelled:
        poses = torch.cat(
            [random_angles(index, rot_interval=rot_interval, seed=seed, stream=c) for c in range(no_copies)]
        )
        chosen = upright[index].repeat(no_copies, 1, 1, 1)
        images = rotate_images(chosen, poses) if rot_interval else chosen
        return Labelled(images.mul(255).round().to(torch.uint8), labels[index].repeat(no_copies), poses)

    pool, tested = sources[: FACTS.no_train], sources[FACTS.no_train :]
    return assemble(
        with_notes(planned, turned_note(rot_interval)),
        turned(pool[positions.train], copies),
        turned(pool[positions.validation]),
        turned(tested[positions.test]),
    )


def check_digit_copies(copies: int, planned: DatasetInfo) -> None:
    """Raise UserError unless there is a copy, and memory for all: they are turned as real numbers."""
    check_copies(copies, planned.no_train, 4 * planned.size[0] ** 2, "turned copies of each training image")


def read_upright(size: int) -> tuple[Tensor, Tensor]:
    """Return the digits as they were written.

    Shape:
        -> images float32 [1797, 1, size, size] in [0, 1], labels int64 [1797].
    """
    from sklearn import datasets

    small, labels = datasets.load_digits(return_X_y=True)
    # A ring of background first: strokes touch the 8x8 frame, and enlarging would leave them with a hard edge there.
    framed = functional.pad(torch.from_numpy(small).float().div(16).reshape(-1, 1, 8, 8), [1] * 4)
    side = round(size / math.sqrt(2) * 10 / 8)
    images = functional.interpolate(framed, size=(side, side), mode="bicubic", align_corners=False).clamp_(0, 1)
    before = (size - side) // 2
    after = size - side - before
    return functional.pad(images, [before, after, before, after]), torch.from_numpy(labels).long()
