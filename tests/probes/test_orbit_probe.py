"""The orbit as a probe: numbers by name, a file for comparisons, every image once."""

import math

import pytest
import torch
from torch import nn

from partial_equiv.datasets import Batch
from partial_equiv.errors import UserError
from partial_equiv.probes import Orbit


class Corner(nn.Module):
    """Says class 1 where the first pixel is bright."""

    def forward(self, images):
        bright = images[:, 0, 0, 0]
        return torch.stack([0.5 - bright, bright - 0.5], dim=1)


def batches(no_images=10, size=4):
    """Yield images with one bright corner, the first pixel, each of class 1, three to a batch; once."""
    images = torch.zeros(no_images, 1, 5, 5)
    images[:, 0, 0, 0] = 1
    for start in range(0, no_images, size):
        part = images[start : start + size]
        yield Batch(part, torch.ones(len(part), dtype=torch.int64), torch.arange(len(part)))


def test_elements_are_measured_on_all_images_and_the_curve_on_the_first():
    probe = Orbit(group="C4", no_angles=8, no_curve_images=5)
    numbers = probe(Corner().eval(), batches())
    assert (numbers["orbit/acc_upright"], numbers["orbit/acc_unseen"], numbers["orbit/spread"]) == (1.0, 0.0, 1.0)
    assert (numbers["orbit/0°"], numbers["orbit/90°"]) == (1.0, 0.0)
    assert probe.elements.no_images == 10 and probe.curve.no_images == 5
    file = probe.artifacts()["orbit.json"]
    assert [round(math.degrees(angle)) for angle in file["angles"]] == list(range(0, 360, 45))
    assert file["elements_report"]["no_images"] == 10 and file["no_images"] == 5


def test_without_a_curve_the_elements_are_the_file():
    probe = Orbit(group="D4", no_angles=None, no_curve_images=None)
    numbers = probe(Corner().eval(), batches())
    # The corner stays where it is under the identity and one of the four mirrors.
    assert numbers["orbit/acc_mean"] == 2 / 8
    assert probe.artifacts()["orbit.json"]["group"] == "D4"
    assert "orbit/curve_mean" not in numbers


def test_it_leaves_nothing_before_it_was_called():
    assert Orbit(group="C4", no_angles=None, no_curve_images=None).artifacts() == {}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"no_angles": 1, "no_curve_images": None}, "test.orbit.no_angles=1 is out of range: give 2 or more"),
        ({"no_angles": 36, "no_curve_images": 0}, "test.orbit.no_curve_images=0 is out of range"),
    ],
)
def test_a_number_out_of_range_is_told(keys, words):
    with pytest.raises(UserError, match=words):
        Orbit(group="C4", **keys)
