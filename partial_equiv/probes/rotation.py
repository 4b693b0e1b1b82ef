"""How well the rotation between two views is told from their representations.

Axes: N objects, V views of an object, M pairs.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch, ViewSet
from partial_equiv.drawing import predicted_rotation
from partial_equiv.errors import UserError
from partial_equiv.latents import ANGLES, published_rotation
from partial_equiv.probes.features import Norms, check_names, check_views, evaluating, measured
from partial_equiv.probes.heads import HeadChoices, answers, asked_pairs, members, named, pair_question, table
from partial_equiv.probes.probe import Artifact, Probe
from partial_equiv.probes.scores import fit_scores
from partial_equiv.rotations import euler_quaternion, geodesic, quaternion_euler

TARGETS = {"quaternion": 4, "euler": 3}
TINY = 1e-12


class Shown(NamedTuple):
    """What the figure draws: quaternions [M, 4]."""

    name: str
    true: Tensor
    predicted: Tensor
    constant: Tensor


class Rotation(Probe):
    """Fit of the relative rotation that a head tells from two views, for every part of the representation.

    quaternion: conj(q1) q2, sign as the product has it; euler: the same rotation as angles about fixed x, y, z. A head
    learns with the mean squared error from random pairs of views; each test view is asked with one other view of its
    object. Angles are those between the true rotation and the answer, a quaternion being taken to length 1.

    Args:
        parts: Of the representation: all, inv, equi.
        heads: linear, or deep (published).
        targets: quaternion (published), euler.
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
        UserError: no views, no columns ex, ey, ez, or a number out of range.
    Source: Garrido et al. 2023. Differs: R^2 by three definitions of which theirs is r2_flat, angles, a constant
        beside, and a pair for every test view.
    """

    whole = True

    def __init__(
        self,
        *,
        parts: list[str],
        heads: list[str],
        targets: list[str],
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
        check_rotation("rotation", train, latents)
        check_names(targets, TARGETS, "test.rotation.targets")
        self.choices = HeadChoices(
            probe="rotation",
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
        self.targets, self.latents = tuple(dict.fromkeys(targets)), tuple(latents)
        self.train, self.test = train, test
        self.numbers: dict[str, float] = {}
        self.shown: Shown | None = None

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "rotation/<part>/<head>/<target>/<score>", "rotation/baseline/.." and "rotation/chance/..".

        Scores: r2 (variance-weighted), r2_flat (published), r2_uniform, mse, degrees_mean, degrees_median. The baseline
        is the mean of the training targets; chance, in degrees alone, answers with the rotation of another pair. Scores
        of a group of objects have its name at their end.
        """
        assert self.train is not None and self.test is not None, "a dry run runs no probe"
        objective, train, test = measured(model, "rotation"), self.train, self.test
        asked, self.shown = asked_pairs(test, self.choices.seed), None
        groups = members(asked[:, 0] // test.no_views, test)
        numbers: dict[str, float] = {}
        for target in self.targets:
            true = self.target(test, asked, target)
            constant = self.target(train, asked_pairs(train, self.choices.seed), target).mean(dim=0)
            numbers |= scored(f"rotation/baseline/{target}", constant.expand_as(true), true, groups)
            other = scored(f"rotation/chance/{target}", true.roll(1 + len(true) // 2, 0), true, groups)
            numbers |= {key: value for key, value in other.items() if "/degrees_" in key}
            learned = functools.partial(self.target, train, target=target)
            question = pair_question(train, asked, learned, TARGETS[target])
            with evaluating(model):
                for part, kind, answer in answers(objective, train, test, self.choices, question):
                    numbers |= scored(f"rotation/{part}/{kind}/{target}", answer, true, groups)
                    if self.shown is None or (target == self.targets[0] and part == "equi"):
                        found = (as_quaternion(value) for value in (true, answer, constant))
                        self.shown = Shown(f"{part} part, {kind} head", *found)
        self.numbers = numbers
        return numbers

    def target(self, views: ViewSet, positions: Tensor, target: str) -> Tensor:
        """Return what is to be told of pairs: positions [M, 2] -> [M, 4] or [M, 3]."""
        first, second = poses_at(views, self.latents)[positions].unbind(dim=1)
        quaternion = published_rotation(first, second)
        return quaternion if target == "quaternion" else quaternion_euler(quaternion)

    def words(self) -> str:
        """Return the table: part, head and target, honest and published R^2, median angle."""
        if not self.numbers:
            return ""
        names = ("rotation of a pair", "R2", "flat R2", "median deg")
        lines = table(names, self.numbers, "rotation", ("r2", "r2_flat", "degrees_median"))
        return (
            f"{lines}\nflat R2 is the published one, which a constant lifts above 0; R2 compares with the best constant"
        )

    def artifacts(self) -> dict[str, Artifact]:
        """Return the figure of the predicted rotations."""
        if self.shown is None:
            return {}
        name, true, predicted, constant = self.shown
        own, others = (geodesic(nonzero(answer), true).numpy() for answer in (predicted, constant.expand_as(true)))
        title = f"Predicted against true rotation: {name}"
        drawn = (true.numpy(), predicted.numpy(), constant.numpy())
        return {"predicted_rotation.png": predicted_rotation(*drawn, own, others, title)}


def check_rotation(probe: str, views: object, latents: Sequence[str]) -> None:
    """Refuse data without poses.

    Raises:
        UserError: no views of objects, or their poses are not among the latents.
    """
    check_views(views, probe, least=2)
    if missing := [name for name in ANGLES if name not in latents]:
        known = ", ".join(latents) or "none"
        raise UserError(
            f"test.probes=[{probe}] needs views with rotation latents, and these lack {', '.join(missing)} (they have: "
            f"{known}): set dataset=shapes3d, for example, or leave {probe} out of the probes"
        )


def poses_at(views: ViewSet, latents: Sequence[str]) -> Tensor:
    """Return the angles ex, ey, ez of every view: [N V, 3], double precision."""
    columns = [latents.index(name) for name in ANGLES]
    return views.latents.flatten(0, 1)[:, columns].double()


def as_quaternion(answer: Tensor) -> Tensor:
    """Return answers [..., 4] as they are, angles [..., 3] as quaternions."""
    return answer.double() if answer.shape[-1] == 4 else euler_quaternion(answer.double())


def nonzero(quaternions: Tensor) -> Tensor:
    """Return quaternions with those of length 0, which are no rotation, replaced by the identity."""
    identity = quaternions.new_tensor([0.0, 0.0, 0.0, 1.0])
    return torch.where(quaternions.norm(dim=-1, keepdim=True) > TINY, quaternions, identity)


def scored(key: str, answer: Tensor, true: Tensor, groups: dict[str, Tensor]) -> dict[str, float]:
    """Return all scores of answers, for the whole and for each group of objects."""
    angles = geodesic(nonzero(as_quaternion(answer)), as_quaternion(true))
    numbers: dict[str, float] = {}
    for group, inside in groups.items():
        degrees = angles[inside] * (180 / math.pi)
        values = fit_scores(answer[inside], true[inside])._asdict()
        values |= {"degrees_mean": float(degrees.mean()), "degrees_median": float(degrees.median())}
        numbers |= named(key, values, group)
    return numbers
