"""Random numbers of a whole epoch, drawn once and looked up by every batch.

Axes: N examples of the set, B of a batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Draw = Callable[[Tensor, int], Tensor]
"""Positions int64 [B] on the CPU and an epoch -> rows [B, ...], a pure function of both."""
NO_AT_ONCE = 1 << 16  # examples drawn at once: bounds the memory of what a draw computes on its way


class EpochTable:
    """A draw of all examples of an epoch, on the device where batches are made: a step neither draws nor waits.

    rows(index, epoch) = draw(index, epoch), to the bit. The first batch of an epoch pays for all of it.

    Args:
        draw: The function that is tabulated.
        no_examples: N.
        device: Where positions come from and rows go.
    """

    def __init__(self, draw: Draw, no_examples: int, device: torch.device) -> None:
        """Draw nothing yet."""
        self.draw = draw
        self.no_examples = no_examples
        self.device = device
        self.epoch: int | None = None
        self.rows = torch.empty(0)

    def __call__(self, index: Tensor, epoch: int) -> Tensor:
        """Return the rows of the examples, index int64 [B] on the device -> [B, ...]."""
        if epoch != self.epoch:
            chunks = torch.arange(self.no_examples).split(NO_AT_ONCE)
            self.rows = torch.cat([self.draw(chunk, epoch) for chunk in chunks]).to(self.device)
            self.epoch = epoch
        return self.rows.index_select(0, index)
