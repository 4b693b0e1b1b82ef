"""Sampling of group elements: laws, the samplers that own learned levels and gates, and the menu."""

from typing import Literal

from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.sampling.control import random_draws, samplers, set_hard_gates, set_progress
from partial_equiv.sampling.laws import (
    Sample,
    gate_probability,
    interval_angles,
    relaxed_gates,
    temperature,
)
from partial_equiv.sampling.samplers import GridSampler, IntervalSampler, RandomGridSampler, Sampler, SubsetSampler
from partial_equiv.sampling.sets import draw_sets

__all__ = [
    "GridSampler",
    "IntervalSampler",
    "RandomGridSampler",
    "Sample",
    "Sampler",
    "SubsetSampler",
    "draw_sets",
    "gate_probability",
    "interval_angles",
    "make_sampler",
    "random_draws",
    "relaxed_gates",
    "samplers",
    "set_hard_gates",
    "set_progress",
    "temperature",
]


def make_sampler(
    *,
    group: Group,
    no_samples: int,
    sampling_method: Literal["deterministic", "random"] = "deterministic",
    partial_equiv: bool = False,
    count: Literal["all", "ceil"] = "all",
    gumbel_init_temp: float = 0.5,
    gumbel_end_temp: float = 1e-4,
    initial_level: float = 1.0,
) -> Sampler:
    """Return a fresh sampler: fixed or random over the whole group, or with a learned subset of it.

    Args:
        group: Where elements come from.
        no_samples: Elements per set.
        sampling_method: "deterministic" for a fixed grid, "random" for one with a random common offset in training.
        partial_equiv: Learn which part of the group to keep: an interval of turns (random) or a subset of the grid.
        count: With random partial sampling, "all" or the published "ceil" (see `IntervalSampler`).
        gumbel_init_temp: Gate temperature at the start of training.
        gumbel_end_temp: Gate temperature at its end.
        initial_level: Share of the circle, in (0, 1], that a learned interval starts from.

    Raises:
        UserError: the group, number of samples and method do not fit together, a temperature is not positive, or a
            level is no share.
    """
    if not 0 < initial_level <= 1:
        raise UserError(f"conv.initial_level={initial_level} is no share of the circle: give above 0 and up to 1")
    if min(gumbel_init_temp, gumbel_end_temp) <= 0:
        raise UserError(
            f"base_group.gumbel_init_temp={gumbel_init_temp} and gumbel_end_temp={gumbel_end_temp} must be above 0"
        )
    temperatures = {"initial_temperature": gumbel_init_temp, "final_temperature": gumbel_end_temp}
    if sampling_method == "deterministic":
        if partial_equiv:
            return SubsetSampler(group=group, no_samples=no_samples, **temperatures)
        return GridSampler(group=group, no_samples=no_samples)
    if partial_equiv:
        return IntervalSampler(
            group=group, no_samples=no_samples, count=count, initial_level=initial_level, **temperatures
        )
    return RandomGridSampler(group=group, no_samples=no_samples)
