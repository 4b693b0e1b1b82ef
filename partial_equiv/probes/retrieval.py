"""Whether the predicted embedding of another view is nearest to that view, among all views of the object.

Axes: N objects, V views of an object, E numbers of an embedding, C channels, Y X pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch, ViewSet
from partial_equiv.drawing import Retrieved, nearest_views
from partial_equiv.errors import UserError
from partial_equiv.latents import ANGLES
from partial_equiv.probes.features import (
    ROWS,
    Measured,
    check_names,
    check_views,
    device_of,
    embedded,
    evaluating,
    measured,
)
from partial_equiv.probes.heads import members, named, table
from partial_equiv.probes.probe import Artifact, Probe
from partial_equiv.probes.rotation import poses_at
from partial_equiv.probes.scores import chance_reciprocal_rank, hit_rate, ranks, reciprocal_rank, similarities
from partial_equiv.rotations import euler_quaternion, geodesic

HITS = (1, 2, 5, 10)
COLUMNS = ("mrr", *(f"hit_{k}" for k in HITS))
SHOWN, FOUND, SMALLEST = 6, 5, 8
Sources = Literal["first", "all"]
WITHOUT = "this method predicts no embeddings: the source view itself asks, which finds no other view but by chance"


class Retrieval(Probe):
    """Mean reciprocal rank (MRR) and hits (H@k) of predicted embeddings among the views of their own object.

    query_i = predict(z_source, latents of the source, latents of view i) for every view i, the source included; its
    rank counts the views whose embedding has a higher dot product with it than view i, equal ones by half.

    Args:
        splits: test, train.
        sources: "first", the first view of each object (published), or "all" of them in turn.
        normalise: Whether embeddings and queries are taken to length 1.
        latents: Columns of the latents of a view.
        class_names: Name of each class.
        train: Training views; None where the probe will not be run.
        test: Test views; None where the probe will not be run.
    Raises:
        UserError: single views of objects, or an unknown split.
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
        class_names: Sequence[str],
        train: ViewSet | None,
        test: ViewSet | None,
    ) -> None:
        check_views(train, "retrieval", least=2)
        if not latents:
            raise UserError("test.probes=[retrieval] needs views with latents: leave retrieval out of the probes")
        check_names(splits, ("test", "train"), "test.retrieval.splits")
        self.splits, self.sources, self.normalise = tuple(dict.fromkeys(splits)), sources, normalise
        self.latents, self.class_names = tuple(latents), tuple(class_names)
        self.views = {"train": train, "test": test}
        self.numbers: dict[str, float] = {}
        self.predicts = True
        self.rows: list[Retrieved] = []

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "retrieval/<split>/mrr" and hit_1, hit_2, hit_5, hit_10, and "retrieval/chance/..".

        Those of a group of objects have its name at their end; hits among all views are left out. A split with another
        number of views than the first has a chance of its own, "retrieval/chance_<split>/..".
        """
        objective = measured(model, "retrieval")
        numbers: dict[str, float] = {}
        self.predicts = objective.has_predictor
        for split in self.splits:
            views = self.views[split]
            assert views is not None, "a dry run runs no probe"
            with evaluating(model):
                z = embedded(objective, views)
                asked = [(n, self.places(query, z[n])) for n, query in questions(objective, z, views, self.sources)]
                if split == self.splits[0]:
                    self.rows = self.pictures(objective, z, views)
            objects, places = (torch.cat(column) for column in zip(*asked, strict=True))
            for group, inside in members(objects, views).items():
                numbers |= named(f"retrieval/{split}", scored(places[inside]), group)
            first = self.views[self.splits[0]]
            ending = "" if first is not None and views.no_views == first.no_views else f"_{split}"
            numbers |= named(f"retrieval/chance{ending}", chance(views.no_views), "")
        self.numbers = numbers
        return numbers

    def places(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Return the rank of every view for the query that asks for it: [n, V, E], [n, V, E] -> [n, V]."""
        scores = similarities(queries.cpu(), gallery, normalise=self.normalise)
        return ranks(scores, torch.arange(scores.shape[-1]).expand(scores.shape[:-1]))

    def pictures(self, objective: Measured, z: Tensor, views: ViewSet) -> list[Retrieved]:
        """Return what the figure shows of a few objects; nothing where views are no pictures."""
        chosen, no_views = shown_objects(views.labels), views.no_views
        count = len(chosen)
        asked = 1 + torch.arange(count) % (no_views - 1)  # never the source
        _, channels, height, width = views.images_at(chosen[:1]).shape
        if channels not in (1, 3) or min(height, width) < SMALLEST:
            return []
        queries = predicted(objective, z, views, chosen, 0)[torch.arange(count), asked].cpu()
        scores = similarities(queries[:, None], z[chosen], normalise=self.normalise)[:, 0]
        best = scores.argsort(dim=-1, descending=True, stable=True)[:, :FOUND]
        rows = []
        for row, (n, view) in enumerate(zip(chosen.tolist(), asked.tolist(), strict=True)):
            positions = n * no_views + torch.cat([torch.tensor([0, view]), best[row]])
            images = pixels(views, positions)
            rows.append(
                Retrieved(
                    source=images[0].numpy(),
                    asked=images[1].numpy(),
                    found=images[2:].numpy(),
                    right=(best[row] == view).tolist(),
                    rank=float(ranks(scores[row], torch.tensor(view))),
                    degrees=self.turns(views, positions),
                    name=self.class_names[int(views.labels[n])],
                )
            )
        return rows

    def turns(self, views: ViewSet, positions: Tensor) -> list[float]:
        """Return angles from the second to the third and later positions; none where poses are unknown."""
        if not set(ANGLES) <= set(self.latents):
            return []
        poses = euler_quaternion(poses_at(views, self.latents)[positions])
        return [float(angle) for angle in geodesic(poses[1], poses[2:])]

    def words(self) -> str:
        """Return the table: ranks and hits of each split and of chance; and whether anything was predicted."""
        if not self.numbers:
            return ""
        lines = table(("views found", "MRR", *(f"H@{k}" for k in HITS)), self.numbers, "retrieval", COLUMNS)
        return lines if self.predicts else f"{lines}\n{WITHOUT}"

    def artifacts(self) -> dict[str, Artifact]:
        """Return the figure of the nearest views."""
        return {"nearest_views.png": nearest_views(self.rows)} if self.rows else {}


def shown_objects(labels: Tensor) -> Tensor:
    """Return a few objects, evenly spread over classes where there are enough, else over all: [N] -> [count]."""
    firsts = torch.stack([(labels == label).nonzero()[0, 0] for label in labels.unique()])
    pool = firsts if len(firsts) >= SHOWN else torch.arange(len(labels))
    return pool[torch.linspace(0, len(pool) - 1, min(SHOWN, len(pool))).round().long()]


def predicted(objective: Measured, z: Tensor, views: ViewSet, objects: Tensor, source: int) -> Tensor:
    """Return the embeddings of all views of objects as predicted from one view: [n, V, E] on the encoder's device.

    Args:
        objective: Predicts.
        z: Embeddings [N, V, E].
        views: Their latents.
        objects: Positions [n].
        source: The view to start from.
    """
    device, no_views = device_of(objective.model), views.no_views
    latents = views.latents[objects].to(device)
    start = latents[:, source : source + 1].expand_as(latents)
    known = z[objects, source].to(device).repeat_interleave(no_views, dim=0)
    found = objective.predict(known, start.flatten(0, 1), latents.flatten(0, 1))
    return found.reshape(len(objects), no_views, -1)


def questions(objective: Measured, z: Tensor, views: ViewSet, sources: Sources) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield objects [n] and the predicted embeddings [n, V, E] of all their views, for each source in turn."""
    at_once = max(1, ROWS // views.no_views)
    for source in range(views.no_views if sources == "all" else 1):
        for objects in torch.arange(views.no_objects).split(at_once):
            yield objects, predicted(objective, z, views, objects, source)


def chance(no_views: int) -> dict[str, float]:
    """Return mean reciprocal rank and hits of a random order."""
    return {"mrr": chance_reciprocal_rank(no_views)} | {f"hit_{k}": k / no_views for k in HITS if k < no_views}


def scored(places: Tensor) -> dict[str, float]:
    """Return mean reciprocal rank and hits of ranks [M, V]."""
    hits = {f"hit_{k}": hit_rate(places, k) for k in HITS if k < places.shape[-1]}
    return {"mrr": reciprocal_rank(places)} | hits


def pixels(views: ViewSet, positions: Tensor) -> Tensor:
    """Return images as they were before they were normalised, uint8 [M, C, Y, X]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (views.mean, views.std))
    return ((views.images_at(positions) * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
