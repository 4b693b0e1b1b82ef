"""Which class is taken for which, and how surely.

Axes: B batch, K classes, N images of a set.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch
from partial_equiv.probes.probe import Probe


class Answers(NamedTuple):
    """What a classifier says of every image of a set, on the CPU, in the order of the loader.

    Args:
        index: Position in the split.
        labels: True class.
        predicted: Class of the highest score.
        of_true: Probability of the true class.
        of_predicted: Probability of the predicted class.
    Shape:
        [N] each, int64, the probabilities float32.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nothing needs of answers
    labels: Tensor
    predicted: Tensor
    of_true: Tensor
    of_predicted: Tensor

    def counts(self, no_classes: int) -> Tensor:
        """Return how often each true class (row) is taken for each class (column): int64 [K, K]."""
        counts = torch.bincount(self.labels * no_classes + self.predicted, minlength=no_classes**2)
        return counts.reshape(no_classes, no_classes)

    def worst(self, most: int) -> list[dict[str, float]]:
        """Return the mistakes, those first whose true class is held least probable, at most `most`, as plain values."""
        wrong = (self.labels != self.predicted).nonzero()[:, 0]
        places = wrong[self.of_true[wrong].argsort(stable=True)][:most].tolist()
        return [
            {
                "index": int(self.index[place]),
                "true": int(self.labels[place]),
                "predicted": int(self.predicted[place]),
                "of_true": float(self.of_true[place]),
                "of_predicted": float(self.of_predicted[place]),
            }
            for place in places
        ]


def answers_of(scores: Callable[[Tensor], Tensor], loader: Iterable[Batch]) -> Answers:
    """Return what a classifier says of every image.

    Args:
        scores: images [B, C, Y, X] -> [B, K], logits or their log-probabilities.
        loader: Batches on the device of the scores, one at least.
    """
    parts: list[Answers] = []
    for batch in loader:
        probabilities = scores(batch.images).float().softmax(dim=-1)
        of_predicted, predicted = probabilities.max(dim=-1)
        of_true = probabilities.gather(-1, batch.labels[:, None])[:, 0]
        found = (batch.index, batch.labels, predicted, of_true, of_predicted)
        parts.append(Answers(*(values.cpu() for values in found)))
    return Answers(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


class ClassAccuracy(Probe):
    """Share of each class's images that are recognised.

    Args:
        class_names: Name of each class, in order.
    """

    def __init__(self, *, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "class_accuracy/<name>" for every class that occurs."""
        counts = answers_of(model, loader).counts(len(self.class_names))
        totals = counts.sum(dim=1).tolist()
        right = counts.diagonal().tolist()
        rows = zip(self.class_names, right, totals, strict=True)
        return {f"class_accuracy/{name}": hits / total for name, hits, total in rows if total}
