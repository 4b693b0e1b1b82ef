"""What a training loop knows: an objective, and the step that it makes of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn


class Step(NamedTuple):
    """What an objective makes of a batch.

    Shape:
        loss []: mean over the batch, to be differentiated; metrics: name -> [], means over the batch; size: examples,
        so that ragged batches average correctly; extra []: loss of heads that watch, which no gradient of the model
        comes from; None without any. A metric with a slash in its name is a detail: it is logged but not shown.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    size: int
    extra: Tensor | None = None


class Objective(nn.Module, ABC):
    """Owns a model, and whatever else is trained with it, and turns a batch into a step.

    A concrete objective names the metric that says which weights are best, and whether more or less of it is better.
    """

    model: nn.Module
    """What is kept after the training, and what probes measure."""
    monitor: str
    mode: Literal["min", "max", "last"]
    """Which value of the monitored metric is best; "last" keeps the last weights, whatever their value."""

    @abstractmethod
    def forward(self, batch: Any) -> Step:
        """Return the step of a batch that lies on the device of the parameters."""

    # Those below are offers, not duties: most objectives need none of them.

    def prepare(self, loader: Iterable[Any]) -> None:
        """Look at the training data once, before the first step of a stage."""

    def set_progress(self, fraction: float) -> None:
        """Take the share of the training, in [0, 1], that is done: the only clock an objective has."""

    def set_step(self, step: int) -> None:
        """Take the number of the step, counted from 0 within the stage."""

    def watchers(self) -> nn.Module | None:
        """Return the heads that watch the training, which an optimiser of their own trains on `Step.extra`."""
        return None

    def learned(self) -> dict[str, list[Any]]:
        """Return what is worth a line per epoch beside the metrics, such as the learned level of each layer."""
        return {}
