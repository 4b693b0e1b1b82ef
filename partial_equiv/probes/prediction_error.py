"""By how much the pose is off of the view that is nearest to a predicted embedding, among all views of a split.

Axes: N objects, V views of an object, E numbers of an embedding, G items of a gallery.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch, ViewSet
from partial_equiv.probes.features import check_names, embedded, evaluating, measured
from partial_equiv.probes.heads import members, named, table
from partial_equiv.probes.probe import Probe
from partial_equiv.probes.retrieval import WITHOUT, Sources, questions
from partial_equiv.probes.rotation import check_rotation, poses_at
from partial_equiv.probes.scores import nearest, pose_errors, random_pose_error
from partial_equiv.rotations import euler_quaternion, geodesic

GALLERIES = {"test": ("test",), "train": ("train",), "all": ("train", "test")}
"""Split -> whose views are searched; the questions of "all" are those of the test views."""
COLUMNS = ("pre", "pre_random", "pre_identity", "degrees_median")


class PredictionError(Probe):
    """Prediction retrieval error (PRE): mean of 1 - <q, q'>^2 = sin^2(angle / 2) of absolute poses.

    q is the pose that was asked for, q' that of the view, of any object, whose embedding has the highest dot product
    with the predicted one; of equal ones the first. Objects of one class must share their axes for this to be small.

    Args:
        splits: test, train: questions and views of one split; all: test questions, training and test views.
        sources: "first", the first view of each object (published), or "all" of them in turn.
        normalise: Whether embeddings and queries are taken to length 1.
        latents: Columns of the latents of a view.
        train: Training views; None where the probe will not be run.
        test: Test views; None where the probe will not be run.
    Raises:
        UserError: no views, no columns ex, ey, ez, or an unknown split.
    Source: Garrido et al. 2023. Differs: any latent and any predictor.
    """

    whole = True

    def __init__(
        self,
        *,
        splits: list[str],
        sources: Sources,
        normalise: bool,
        latents: Sequence[str],
        train: ViewSet | None,
        test: ViewSet | None,
    ) -> None:
        check_rotation("prediction_error", train, latents)
        check_names(splits, GALLERIES, "test.prediction_error.splits")
        self.splits, self.sources, self.normalise = tuple(dict.fromkeys(splits)), sources, normalise
        self.latents, self.views = tuple(latents), {"train": train, "test": test}
        self.numbers: dict[str, float] = {}
        self.predicts = True

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "prediction_error/<split>/pre", the angles degrees_mean and degrees_median, and what chance reaches.

        Chance: pre_random of a random view of the gallery, and pre_identity of the identity as the answer to all.
        Those of a group of objects have its name at their end.
        """
        objective = measured(model, "prediction_error")
        numbers: dict[str, float] = {}
        self.predicts = objective.has_predictor
        for split in self.splits:
            asked = self.views[GALLERIES[split][-1]]
            assert asked is not None, "a dry run runs no probe"
            with evaluating(model):
                own = embedded(objective, asked)
                galleries = [own if views is asked else embedded(objective, views) for views in self.searched(split)]
                flat = [z.flatten(0, 1) for z in galleries]
                gallery = flat[0] if len(flat) == 1 else torch.cat(flat)  # a copy of a large one would be too much
                found = [
                    (n, self.nearest(query, gallery)) for n, query in questions(objective, own, asked, self.sources)
                ]
            objects, items = (torch.cat(column) for column in zip(*found, strict=True))
            there = torch.cat([self.poses(views).flatten(0, 1) for views in self.searched(split)])
            true, answered = self.poses(asked)[objects], there[items]
            for group, inside in members(objects, asked).items():
                scores = scored(true[inside], answered[inside], there)
                numbers |= named(f"prediction_error/{split}", scores, group)
        self.numbers = numbers
        return numbers

    def nearest(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Return the item found for every query: [n, V, E], [G, E] -> [n, V]."""
        return nearest(queries.flatten(0, 1), gallery, normalise=self.normalise).cpu().reshape(queries.shape[:2])

    def searched(self, split: str) -> list[ViewSet]:
        """Return the views among which a split looks."""
        return [views for name in GALLERIES[split] if (views := self.views[name]) is not None]

    def poses(self, views: ViewSet) -> Tensor:
        """Return the absolute poses of all views as quaternions, [N, V, 4]."""
        return euler_quaternion(poses_at(views, self.latents)).reshape(views.no_objects, views.no_views, 4)

    def words(self) -> str:
        """Return the table: PRE of each split beside chance, and the median angle."""
        if not self.numbers:
            return ""
        names = ("pose found", "PRE", "random", "identity", "median deg")
        lines = table(names, self.numbers, "prediction_error", COLUMNS)
        return lines if self.predicts else f"{lines}\n{WITHOUT}"


def scored(true: Tensor, found: Tensor, gallery: Tensor) -> dict[str, float]:
    """Return all scores of found poses [n, V, 4] and those of chance."""
    degrees = geodesic(true, found) * (180 / math.pi)
    identity = true.new_tensor([0.0, 0.0, 0.0, 1.0])
    return {
        "pre": float(pose_errors(true, found).mean()),
        "pre_random": random_pose_error(true.flatten(0, 1), gallery),
        "pre_identity": float(pose_errors(true, identity).mean()),
        "degrees_mean": float(degrees.mean()),
        "degrees_median": float(degrees.median()),
    }
