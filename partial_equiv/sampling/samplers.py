"""Samplers: which group elements a layer computes its output on, and what of that is learned.

Axes: S sample sets (1, or B for one set per image), G elements, d coordinates of an element, n rotations.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.sampling.laws import (
    Sample,
    gate_probability,
    interval_angles,
    published_count,
    relaxed_gates,
    temperature,
    uniform,
)


class Sampler(nn.Module, ABC):
    """Draws group elements; deterministic in evaluation, unless `random_in_eval` asks for draws there too."""

    random_in_eval: bool = False
    hard_gates: bool = False
    level: nn.Parameter | None
    gates: nn.Parameter | None
    roles: ClassVar[dict[str, str]] = {"level": "levels", "gates": "gates"}
    group: Group
    no_samples: int
    no_rotations: int
    reference: Tensor
    progress: Tensor

    @abstractmethod
    def forward(self, no_sets: int = 1, generator: torch.Generator | None = None) -> Sample:
        """Draw `no_sets` sets (one set where nothing is random)."""

    @property
    def random(self) -> bool:
        """Whether the next draw is random."""
        return self.training or self.random_in_eval

    def like(self) -> Tensor:
        """Return an empty tensor in the dtype (float32 at least) and on the device of the elements."""
        return self.reference.to(torch.promote_types(self.reference.dtype, torch.float32))

    def offset(self, no_sets: int, generator: torch.Generator | None) -> Tensor:
        """Return the common offset u of each set, [S, 1]: random where draws are random, else 1/2."""
        like = self.like()
        return uniform((no_sets, 1), like, generator) if self.random else like.new_full((1, 1), 0.5)


class GridSampler(Sampler):
    """The same evenly spread elements at every call, identity first."""

    def __init__(self, *, group: Group, no_samples: int) -> None:
        super().__init__()
        _declare(self, group, no_samples)

    def forward(self, no_sets: int = 1, generator: torch.Generator | None = None) -> Sample:
        """Return the grid, elements [1, G, d]."""
        return grid_of(self)


class RandomGridSampler(Sampler):
    """Evenly spread elements, turned together by one random offset a set: uniform on the whole group."""

    def __init__(self, *, group: Group, no_samples: int) -> None:
        super().__init__()
        _require_circle(group)
        _declare(self, group, no_samples)

    def forward(self, no_sets: int = 1, generator: torch.Generator | None = None) -> Sample:
        """Return turns spread over the full circle, elements [S, G, d]."""
        offset = self.offset(no_sets, generator)
        turns = interval_angles(torch.ones_like(offset), self.no_rotations, offset)
        # A flip maps the offset u to 1 - u, and so to other elements.
        return Sample(self.group.from_angles(turns), closure=4 if self.no_rotations % 4 == 0 else 1)


class IntervalSampler(Sampler):
    """Turns within a learned interval [-pi level, pi level]; the mirrored half, if any, behind one learned gate.

    The level starts at `initial_level`, by default the whole circle, and is used clamped to [0, 1] with the gradient of
    the identity, so that it can come back from either end; the optimiser projects it after each step.

    Args:
        group: A group with all rotations (SE2, E2).
        no_samples: Elements per set.
        count: "all" keeps every turn at every level; "ceil" keeps ceil(n level), the published rule, under which
            features jump as turns leave; each draw then waits for the device.
        initial_temperature: Gate temperature at the start of training.
        final_temperature: Gate temperature at its end.
        initial_level: Where the level starts, in (0, 1].
    Source: Romero & Lohit 2022, section 3.
    """

    def __init__(
        self,
        *,
        group: Group,
        no_samples: int,
        count: Literal["all", "ceil"],
        initial_temperature: float,
        final_temperature: float,
        initial_level: float = 1.0,
    ) -> None:
        super().__init__()
        _require_circle(group)
        self.count, self.temperatures = count, (initial_temperature, final_temperature)
        gates = nn.Parameter(torch.ones(1)) if group.mirror else None
        _declare(self, group, no_samples, level=nn.Parameter(torch.tensor(float(initial_level))), gates=gates)

    def forward(self, no_sets: int = 1, generator: torch.Generator | None = None) -> Sample:
        """Return the turns, elements [S, G, d], and the weight of the mirrored half, [S, G]."""
        assert self.level is not None
        offset = self.offset(no_sets, generator)
        level = self.level + (self.level.clamp(0, 1) - self.level).detach()
        turns = self.no_rotations if self.count == "all" else published_count(level, self.no_rotations)
        elements = self.group.from_angles(interval_angles(level, turns, offset))
        if self.gates is None:
            return Sample(elements)
        mirrored = _open_gates(self, no_sets, generator).expand(-1, turns)
        return Sample(elements, torch.cat([torch.ones_like(mirrored), mirrored], dim=-1))


class SubsetSampler(Sampler):
    """A learned subset of a fixed grid: one gate per turn other than the identity, and one for the mirrored half.

    Args:
        group: Any group.
        no_samples: Elements of the grid.
        initial_temperature: Gate temperature at the start of training.
        final_temperature: Gate temperature at its end.
    Source: Romero & Lohit 2022, section 3. Differs: a gate weights an element's features instead of scaling its angle.
    """

    def __init__(self, *, group: Group, no_samples: int, initial_temperature: float, final_temperature: float) -> None:
        super().__init__()
        self.temperatures = (initial_temperature, final_temperature)
        no_gates = group.no_rotations(no_samples) - 1 + int(group.mirror)
        _declare(self, group, no_samples, gates=nn.Parameter(torch.ones(no_gates)))

    def forward(self, no_sets: int = 1, generator: torch.Generator | None = None) -> Sample:
        """Return the grid, elements [1, G, d], and its weights, [S, G]."""
        elements, _, closure = grid_of(self)
        gates = _open_gates(self, no_sets, generator)
        turns = torch.cat([gates.new_ones(gates.shape[0], 1), gates[:, : self.no_rotations - 1]], dim=-1)
        weights = torch.cat([turns, turns * gates[:, -1:]], dim=-1) if self.group.mirror else turns
        return Sample(elements, weights, closure)


def grid_of(sampler: Sampler) -> Sample:
    """Return the whole grid of a sampler's group, elements [1, G, d]."""
    like = sampler.like()
    elements = sampler.group.grid(sampler.no_samples, like.dtype, like.device).unsqueeze(0)
    return Sample(elements, closure=1 if sampler.no_rotations % 4 else 8 if sampler.group.mirror else 4)


def _declare(
    sampler: Sampler,
    group: Group,
    no_samples: int,
    level: nn.Parameter | None = None,
    gates: nn.Parameter | None = None,
) -> None:
    """Give a sampler what all samplers have; what is not learned is None, and nothing but parameters is saved."""
    sampler.group, sampler.no_samples = group, no_samples
    sampler.no_rotations = group.no_rotations(no_samples)
    sampler.register_parameter("level", level)
    sampler.register_parameter("gates", gates)
    sampler.register_buffer("reference", torch.zeros(0), persistent=False)
    sampler.register_buffer("progress", torch.zeros(()), persistent=False)


def _require_circle(group: Group) -> None:
    if not group.continuous:
        raise UserError(
            f"base_group.sampling_method=random needs all rotations and {group.name} has finitely many: "
            "set base_group.sampling_method=deterministic, or base_group.name=SE2 or E2"
        )


def _open_gates(sampler: "IntervalSampler | SubsetSampler", no_sets: int, generator: torch.Generator | None) -> Tensor:
    """Return gates [S, n]: drawn 0 or 1 where draws are random, else their probability (thresholded on request)."""
    assert sampler.gates is not None
    if sampler.random:
        heat = temperature(sampler.progress, *sampler.temperatures)
        noise = uniform((no_sets, sampler.gates.numel()), sampler.gates, generator)
        return relaxed_gates(sampler.gates, noise, heat)
    probability = gate_probability(sampler.gates).unsqueeze(0)
    return (probability > 0.5).to(probability.dtype) if sampler.hard_gates else probability
