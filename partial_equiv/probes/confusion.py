"""Which class is taken for which.

Axes: B batch, K classes.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch
from partial_equiv.probes.probe import Probe


def confusion_counts(scores: Callable[[Tensor], Tensor], loader: Iterable[Batch], no_classes: int) -> Tensor:
    """Return how often each true class (row) got the highest score of each class (column).

    Args:
        scores: images [B, C, Y, X] -> [B, K], on the CPU or with the device moves of its own.
        loader: Batches on any device.
        no_classes: K.
    Shape:
        -> int64 [K, K], on the CPU.
    """
    counts = torch.zeros(no_classes * no_classes, dtype=torch.int64)
    for batch in loader:
        predicted = scores(batch.images).argmax(dim=-1).cpu()
        counts += torch.bincount(batch.labels.cpu() * no_classes + predicted, minlength=no_classes**2)
    return counts.reshape(no_classes, no_classes)


class ClassAccuracy(Probe):
    """Share of each class's images that are recognised.

    Args:
        class_names: Name of each class, in order.
    """

    def __init__(self, *, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "class_accuracy/<name>" for every class that occurs."""
        counts = confusion_counts(model, loader, len(self.class_names))
        totals = counts.sum(dim=1).tolist()
        right = counts.diagonal().tolist()
        rows = zip(self.class_names, right, totals, strict=True)
        return {f"class_accuracy/{name}": hits / total for name, hits, total in rows if total}
