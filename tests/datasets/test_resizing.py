"""Resizing against PIL, a slow loop and what any resize must keep; sizes of the sets that have the key."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from partial_equiv.datasets import expected_info
from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.info import resized_note, sized
from partial_equiv.datasets.mnist import FACTS
from partial_equiv.datasets.resizing import CHUNK, resize_images
from partial_equiv.errors import UserError


def noise(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(0))


def triangle(no_before, no_after):
    """Return the matrix of one axis: a triangle as wide as the larger of the two pixels, cut at the border, sum 1."""
    scale = no_before / no_after
    width = max(scale, 1.0)
    matrix = torch.zeros(no_after, no_before, dtype=torch.float64)
    for i in range(no_after):
        for j in range(no_before):
            distance = abs((j + 0.5) - (i + 0.5) * scale) / width
            matrix[i, j] = max(0.0, 1 - distance)
    return matrix / matrix.sum(1, keepdim=True)


@pytest.mark.parametrize(("before", "after"), [(28, 27), (28, 29), (32, 33), (96, 97), (28, 14), (20, 50), (33, 8)])
def test_resize_is_the_triangle_filter(before, after):
    images = noise(3, 2, before, before + 5)
    rows, columns = triangle(before, after), triangle(before + 5, after)
    expected = torch.einsum("ij,bcjk,lk->bcil", rows, images.double(), columns)
    found = resize_images(images, (after, after))
    assert found.dtype == torch.uint8
    assert found.shape == (3, 2, after, after)
    assert (found.double() - expected).abs().max() <= 0.5 + 1e-3


@pytest.mark.parametrize("after", [27, 33, 12])
def test_resize_is_pils_to_one_level(after):
    image = noise(1, 3, 28, 28)
    pil = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((after, after), Image.Resampling.BILINEAR)
    found = resize_images(image, (after, after))[0].permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - np.asarray(pil).astype(int)).max() <= 1


def test_equal_size_is_untouched_bit_for_bit():
    images = noise(4, 1, 28, 28)
    assert torch.equal(resize_images(images, (28, 28)), images)


@pytest.mark.parametrize("after", [20, 27, 29, 33])
def test_a_constant_stays_and_symmetries_commute(after):
    assert (resize_images(torch.full((2, 1, 28, 28), 77, dtype=torch.uint8), (after, after)) == 77).all()
    images = noise(5, 1, 28, 28)
    resized = resize_images(images, (after, after)).int()
    for move in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: torch.rot90(x, 1, dims=(-2, -1))):
        assert (resize_images(move(images), (after, after)).int() - move(resized)).abs().max() <= 1


def test_chunks_join(monkeypatch):
    images = noise(7, 1, 9, 9)
    whole = resize_images(images, (11, 11))
    monkeypatch.setattr("partial_equiv.datasets.resizing.CHUNK", 3)
    assert torch.equal(resize_images(images, (11, 11)), whole)
    assert resize_images(images[:0], (11, 11)).shape == (0, 1, 11, 11)
    assert CHUNK > 7


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [("MNIST", 27, 27), ("CIFAR10", 33, 33), ("CIFAR100", None, 32), ("PCam", 97, 97), ("digits", 20, 20)],
)
def test_facts_follow_the_size(name, size, expected):
    assert expected_info(name, {"size": size}).size == (expected, expected)


@pytest.mark.parametrize("size", [7, 257, 0, -28])
def test_sizes_out_of_range_are_told(size):
    with pytest.raises(UserError, match=f"dataset.size={size} is out of range: give 8 to 256 pixels"):
        sized(FACTS, size)
    with pytest.raises(UserError, match=f"dataset.size={size} is out of range"):
        expected_info("MNIST", {"size": size})


def test_a_note_says_what_was_resized():
    assert resized_note(FACTS, 27) == "resized to 27x27"
    assert resized_note(FACTS, 28) == resized_note(FACTS, None) == ""
    assert math.prod(sized(FACTS, 9).size) == 81
