"""What a training loop knows: an objective, and the step that it makes of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn


class Step(NamedTuple):
    """What an objective makes of a batch.

    Shape:
        loss []: mean over the batch, to be differentiated; metrics: name -> [], means over the batch; size: examples,
        so that ragged batches average correctly.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    size: int


class Objective(nn.Module, ABC):
    """Owns a model, and whatever else is trained with it, and turns a batch into a step.

    A concrete objective names the metric that says which weights are best, and whether more or less of it is better.
    """

    model: nn.Module
    """What is kept after the training, and what probes measure."""
    monitor: str
    mode: Literal["min", "max"]

    @abstractmethod
    def forward(self, batch: Any) -> Step:
        """Return the step of a batch that lies on the device of the parameters."""

    # The three below are offers, not duties: most objectives need none of them.

    def prepare(self, loader: Iterable[Any]) -> None:
        """Look at the training data once, before the first step of a stage."""

    def set_progress(self, fraction: float) -> None:
        """Take the share of the training, in [0, 1], that is done: the only clock an objective has."""

    def learned(self) -> dict[str, list[Any]]:
        """Return what is worth a line per epoch beside the metrics, such as the learned level of each layer."""
        return {}
