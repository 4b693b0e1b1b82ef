"""In how many dimensions representations and embeddings vary: whether anything collapsed.

Axes: M views, D dimensions.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch, ViewSet
from partial_equiv.drawing import spectrum
from partial_equiv.errors import UserError
from partial_equiv.probes.features import (
    Measured,
    check_views,
    device_of,
    evaluating,
    mapped,
    measured,
    view_features,
)
from partial_equiv.probes.probe import Artifact, Probe

DEAD = 1e-4
FLOOR = 1e-8  # of singular values over the largest: eigenvalues of a covariance in double precision see no further


class Spectrum(Probe):
    """Singular values of centred representations and embeddings of the test views.

    effective rank = exp of the entropy of s_i / sum s, between 1 (all vary along one line) and D (all alike).

    Args:
        no_views: Test views that are looked at, evenly spread; all where there are fewer.
        test: Test views; None where the probe will not be run.
    Raises:
        UserError: no views, or fewer than 2 to look at.
    Source: Jing et al. 2022 (the spectrum), Roy & Vetterli 2007 (effective rank).
    """

    whole = True

    def __init__(self, *, no_views: int, test: ViewSet | None) -> None:
        check_views(test, "spectrum")
        if no_views < 2:
            raise UserError(f"test.spectrum.no_views={no_views} is out of range: give 2 or more")
        self.no_views, self.test = no_views, test
        self.curves: dict[str, Tensor] = {}

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "spectrum/effective_rank_<space>" and the share of dimensions that stand still, "dead_dims_<space>".

        Spaces: representation; embedding, all of them joined; and each alone where there are several.
        """
        assert self.test is not None, "a dry run runs no probe"
        objective = measured(model, "spectrum")
        h = view_features(objective.model, self.test).flatten(0, 1)
        h = h[torch.linspace(0, len(h) - 1, min(self.no_views, len(h))).round().long()]
        with evaluating(model):
            spaces = {"representation": h} | embeddings_of(objective, h)
        numbers = {}
        self.curves = {}
        for name, values in spaces.items():
            singular = singular_values(values)
            self.curves[name.replace("_", " ")] = (singular / singular.max()).nan_to_num(0).clamp_min(FLOOR).log10()
            numbers[f"spectrum/effective_rank_{name}"] = effective_rank(singular)
            numbers[f"spectrum/dead_dims_{name}"] = dead_dimensions(values)
        return numbers

    def artifacts(self) -> dict[str, Artifact]:
        """Return the figure of the singular values."""
        if not self.curves:
            return {}
        return {"spectrum.png": spectrum({name: values.numpy() for name, values in self.curves.items()})}


def embeddings_of(objective: Measured, h: Tensor) -> dict[str, Tensor]:
    """Return "embedding", all embeddings of representations [M, D] joined, and each alone where there are several.

    The objective must be in evaluation mode.
    """
    device = device_of(objective.model)
    widths = {name: z.shape[1] for name, z in objective.embeddings(h[:2].to(device)).items()}
    if not widths:
        return {}
    every = mapped(lambda rows: torch.cat(list(objective.embeddings(rows).values()), dim=1), h, device, "embeddings")
    each = zip(widths, every.split(list(widths.values()), dim=1), strict=True)
    several = {f"embedding_{name}": values for name, values in each} if len(widths) > 1 else {}
    return {"embedding": every} | several


def singular_values(values: Tensor) -> Tensor:
    """Return the singular values of centred rows, largest first, in double precision: [M, D] -> [min(M - 1, D)]."""
    centred = values.double() - values.double().mean(dim=0)
    squares: Tensor = torch.linalg.eigvalsh(centred.mT @ centred).flip(0)
    return squares.clamp_min(0).sqrt()[: len(values) - 1]  # centring takes one away


def effective_rank(singular: Tensor) -> float:
    """Return exp of the entropy of singular values [D] as shares of their sum; 0 where nothing varies."""
    total = singular.sum()
    if not total > 0:
        return 0.0
    return float(torch.special.entr(singular / total).sum().exp())


def dead_dimensions(values: Tensor) -> float:
    """Return the share of dimensions of rows [M, D] whose deviation is below 0.0001."""
    return float((values.double().std(dim=0) < DEAD).double().mean())
