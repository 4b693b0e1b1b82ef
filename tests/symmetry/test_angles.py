"""Wrapping and circular means, against complex numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partial_equiv.symmetry import circular_mean, wrap

ANGLES = st.floats(-100, 100)


@given(ANGLES, st.sampled_from([torch.float32, torch.float64]))
def test_a_wrapped_angle_is_the_same_direction_in_the_half_open_circle(angle, dtype):
    given_angle = torch.tensor(angle, dtype=dtype)
    wrapped = float(wrap(given_angle))
    assert -math.pi < wrapped <= float(torch.tensor(math.pi, dtype=dtype))
    assert np.exp(1j * wrapped) == pytest.approx(np.exp(1j * float(given_angle)), abs=1e-4)


def test_half_a_turn_is_positive_whichever_way_it_is_written():
    halves = torch.tensor([-math.pi, math.pi, 3 * math.pi, -5 * math.pi], dtype=torch.float64)
    assert wrap(halves).tolist() == pytest.approx([math.pi] * 4)
    just_below_zero = torch.tensor([math.pi + 1e-9, -1e-9], dtype=torch.float32)
    assert (wrap(just_below_zero) > -math.pi).all()


@given(st.lists(st.tuples(ANGLES, st.floats(0.1, 5)), min_size=1, max_size=20))
def test_the_circular_mean_is_that_of_unit_vectors(pairs):
    angles, weights = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    vector = np.average(np.exp(1j * angles.numpy()), weights=weights.numpy())
    found = circular_mean(angles, weights)
    assert float(found.resultant) == pytest.approx(abs(vector), abs=1e-9)
    direction = float(found.resultant) * np.exp(1j * float(found.mean))
    assert direction == pytest.approx(vector, abs=1e-9)


def test_angles_without_a_direction_have_no_resultant_and_a_finite_mean():
    opposite = circular_mean(torch.tensor([[0.0, math.pi], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert opposite.resultant.tolist() == pytest.approx([0, 0], abs=1e-6)
    assert torch.isfinite(opposite.mean).all()


def test_leading_axes_are_kept():
    angles = torch.rand(3, 4, 5)
    assert circular_mean(angles).mean.shape == (3, 4)
    assert float(circular_mean(angles).mean[2, 1]) == pytest.approx(float(circular_mean(angles[2, 1]).mean))
