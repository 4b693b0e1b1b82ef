"""How well the class of an object is told from the representation of one view."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.datasets import Batch, ViewSet
from partial_equiv.errors import UserError
from partial_equiv.probes.features import Norms, check_views, evaluating, measured
from partial_equiv.probes.heads import Examples, HeadChoices, Question, answers, drawn_views, table
from partial_equiv.probes.probe import Probe
from partial_equiv.probes.scores import top_shares

TOP = 5


class HeadClassification(Probe):
    """Share of test views whose class a head tells, for every part of the representation.

    A head learns from random views of the training objects with cross entropy; all views of the test objects are asked.

    Args:
        parts: Of the representation: all, inv, equi.
        heads: linear (published) or deep.
        epochs: Of each head.
        views_per_object: Views of an object in an epoch; None as many as give about 1,000 steps.
        batch_size: Views of a step.
        lr: Of Adam.
        hidden: Width of the hidden layers of a deep head.
        bn: eval, or batch as published; see `frozen_features`.
        class_names: Name of each class.
        train: Views to learn from; None where the probe will not be run.
        test: Views to be asked; None where the probe will not be run.
        seed: Of heads and draws.
    Raises:
        UserError: no views, no labels, or a number out of range.
    Source: Garrido et al. 2023. Differs: all test views instead of one of each object; a frozen encoder in evaluation
        mode unless `bn` is batch.
    """

    whole = True

    def __init__(
        self,
        *,
        parts: list[str],
        heads: list[str],
        epochs: int,
        views_per_object: int | None,
        batch_size: int,
        lr: float,
        hidden: int,
        bn: Norms,
        class_names: Sequence[str],
        train: ViewSet | None,
        test: ViewSet | None,
        seed: int,
    ) -> None:
        check_views(train, "classification")
        if len(class_names) < 2:
            raise UserError(
                f"test.probes=[classification] needs labels of 2 or more classes, and there are {len(class_names)}: "
                "give a labelled set, or leave classification out of the probes"
            )
        self.choices = HeadChoices(
            probe="classification",
            parts=parts,
            heads=heads,
            epochs=epochs,
            per_object=views_per_object,
            batch_size=batch_size,
            lr=lr,
            hidden=hidden,
            bn=bn,
            seed=seed,
        )
        self.no_classes, self.train, self.test = len(class_names), train, test
        self.numbers: dict[str, float] = {}

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "classification/<part>/<head>/top1" and top5, and "classification/chance/.." of the largest classes.

        With at most 5 classes nothing is said of the top 5.
        """
        assert self.train is not None and self.test is not None, "a dry run runs no probe"
        objective, train, test = measured(model, "classification"), self.train, self.test
        labels = test.labels.repeat_interleave(test.no_views)
        ks = (1, TOP) if self.no_classes > TOP else (1,)
        counts = labels.bincount(minlength=self.no_classes).sort(descending=True).values / len(labels)
        numbers = {f"classification/chance/top{k}": float(counts[:k].sum()) for k in ks}

        def draw(per_object: int, draws: torch.Generator) -> Examples:
            positions = drawn_views(train.no_objects, train.no_views, per_object, draws)
            return Examples(positions, train.labels[positions[:, 0] // train.no_views])

        question = Question(draw, torch.arange(len(labels))[:, None], self.no_classes, cross_entropy)
        with evaluating(model):
            for part, kind, logits in answers(objective, train, test, self.choices, question):
                shares = zip(ks, top_shares(logits, labels, ks), strict=True)
                numbers |= {f"classification/{part}/{kind}/top{k}": share for k, share in shares}
        self.numbers = numbers
        return numbers

    def words(self) -> str:
        """Return the table: part and head, top-1 and top-5 accuracy."""
        if not self.numbers:
            return ""
        return table(("class of a view", "top-1", "top-5"), self.numbers, "classification", ("top1", "top5"))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of logits [M, K] for labels [M]."""
    return functional.cross_entropy(logits, labels)
