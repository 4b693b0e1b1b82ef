"""How well the change of colour between two views is told from their representations.

Axes: M pairs, O hues that vary.
"""

import functools
from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from partial_equiv.datasets import Batch, ViewSet
from partial_equiv.latents import HUES
from partial_equiv.probes.features import Norms, check_views, evaluating, measured
from partial_equiv.probes.heads import HeadChoices, answers, asked_pairs, named, pair_question, table
from partial_equiv.probes.probe import Probe
from partial_equiv.probes.scores import fit_scores

FIXED = 1e-6
"""A hue whose deviation over the views is below this does not vary."""


class Color(Probe):
    """Fit of the change of hues that a head tells from two views, for every part of the representation.

    target = hues of the second view - hues of the first, as they are, not around the circle. A hue that is the same in
    all views, or that nobody knows, is left out, for nothing of it could be explained, and the words say so.

    Args:
        parts: Of the representation: all, inv, equi.
        heads: linear, or deep (published).
        epochs: Of each head.
        pairs_per_object: Pairs of an object in an epoch; None as many as give about 1,000 steps.
        batch_size: Pairs of a step.
        lr: Of Adam.
        hidden: Width of the hidden layers of a deep head.
        bn: eval, or batch as published; see `frozen_features`.
        latents: Columns of the latents of a view.
        train: Views to learn from; None where the probe will not be run.
        test: Views to be asked; None where the probe will not be run.
        seed: Of heads and pairs.
    Raises:
        UserError: no views, or a number out of range.
    Source: Garrido et al. 2023. Differs: R^2 by three definitions of which theirs is r2_flat, and a pair for every test
        view.
    """

    whole = True

    def __init__(
        self,
        *,
        parts: list[str],
        heads: list[str],
        epochs: int,
        pairs_per_object: int | None,
        batch_size: int,
        lr: float,
        hidden: int,
        bn: Norms,
        latents: Sequence[str],
        train: ViewSet | None,
        test: ViewSet | None,
        seed: int,
    ) -> None:
        check_views(train, "color", least=2)
        self.choices = HeadChoices(
            probe="color",
            parts=parts,
            heads=heads,
            epochs=epochs,
            per_object=pairs_per_object,
            batch_size=batch_size,
            lr=lr,
            hidden=hidden,
            bn=bn,
            seed=seed,
        )
        self.latents, self.train, self.test = tuple(latents), train, test
        self.numbers: dict[str, float] | None = None
        self.fixed: list[str] = []

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "color/<part>/<head>/<score>", and those of the mean training target under "color/baseline/..".

        Scores: r2 (variance-weighted), r2_flat (published), r2_uniform, mse, and r2_floor_hue and r2_light_hue alone.
        """
        assert self.train is not None and self.test is not None, "a dry run runs no probe"
        objective, train, test = measured(model, "color"), self.train, self.test
        there = [name for name in HUES if name in self.latents]
        hues = [name for name in there if all(varies(views, self.latents.index(name)) for views in (train, test))]
        self.fixed, self.numbers = [name for name in HUES if name not in hues], {}
        if not hues:
            return {}
        columns = [self.latents.index(name) for name in hues]
        asked = asked_pairs(test, self.choices.seed)
        true = changes(test, asked, columns)
        constant = changes(train, asked_pairs(train, self.choices.seed), columns).mean(dim=0)
        numbers = scored("color/baseline", constant.expand_as(true), true, hues)
        learned = functools.partial(changes, train, columns=columns)
        question = pair_question(train, asked, learned, len(hues))
        with evaluating(model):
            for part, kind, answer in answers(objective, train, test, self.choices, question):
                numbers |= scored(f"color/{part}/{kind}", answer, true, hues)
        self.numbers = numbers
        return numbers

    def words(self) -> str:
        """Return the table: part and head, honest R^2 of both hues and of each; and which hues do not vary."""
        if self.numbers is None:
            return ""
        names, scores = ("colour of a pair", "R2", "floor hue", "light hue"), ("r2", "r2_floor_hue", "r2_light_hue")
        lines = [table(names, self.numbers, "color", scores)] if self.numbers else []
        return "\n".join(
            lines + [f"{name} is the same in all views, or not known, so nothing is said of it" for name in self.fixed]
        )


def varies(views: ViewSet, column: int) -> bool:
    """Say whether a column of the latents differs between views."""
    return float(views.latents[..., column].double().std(correction=0)) > FIXED


def changes(views: ViewSet, positions: Tensor, columns: Sequence[int]) -> Tensor:
    """Return second minus first of pairs: positions [M, 2] -> float32 [M, O]."""
    first, second = views.latents.flatten(0, 1)[:, list(columns)][positions].unbind(dim=1)
    return second - first


def scored(key: str, answer: Tensor, true: Tensor, hues: Sequence[str]) -> dict[str, float]:
    """Return all scores of answers, and the R^2 of each hue."""
    values: dict[str, float] = fit_scores(answer, true)._asdict()
    for column, name in enumerate(hues):
        values[f"r2_{name}"] = fit_scores(answer[:, column : column + 1], true[:, column : column + 1]).r2
    return named(key, values, "")
