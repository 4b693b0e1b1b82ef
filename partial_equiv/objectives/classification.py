"""Classification: cross entropy, accuracy, and regularisers on what the forward pass used.

Axes: B batch, K classes, D draws.
"""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.datasets import Batch
from partial_equiv.errors import UserError
from partial_equiv.objectives.learned import learned_numbers
from partial_equiv.objectives.objective import Objective, Step
from partial_equiv.objectives.terms import Record, Regulariser, recording
from partial_equiv.sampling import random_draws, set_progress

SEED_OF_DRAWS = 0x5EED


class Classification(Objective):
    """Cross entropy of a network's logits; regularisers are added in training only.

    In evaluation the elements are the fixed ones, or, with draws, the scores are log (1/D) sum_d softmax(logits_d)
    over D random draws from a generator seeded alike for every batch: two evaluations agree bit for bit either way.

    Args:
        model: images [B, C, Y, X] -> logits [B, K]; with draws it must take `generator`.
        regularisers: Name -> term and factor; the weighted sum is added to the loss, each term is a metric.
        no_draws: D; 0 evaluates at the fixed elements.
    Raises:
        UserError: a negative number of draws.
    """

    monitor = "accuracy"
    mode = "max"

    def __init__(
        self, model: nn.Module, *, regularisers: Mapping[str, Regulariser] | None = None, no_draws: int = 0
    ) -> None:
        super().__init__()
        if no_draws < 0:
            raise UserError(f"test.no_draws={no_draws} is negative: give 0 (fixed elements) or the number of draws")
        self.model = model
        self.regularisers = dict(regularisers or {})
        self.no_draws = no_draws

    def forward(self, batch: Batch) -> Step:
        """Return cross entropy and accuracy of a batch."""
        regularised = self.training and bool(self.regularisers)
        kernels = any(regulariser.kernels for regulariser in self.regularisers.values())
        with recording(self.model, kernels) if regularised else contextlib.nullcontext(Record([], [], [])) as record:
            scores = self.scores(batch.images)
            precise = scores if scores.dtype == torch.float64 else scores.float()
            loss = functional.cross_entropy(precise, batch.labels)
            hits = scores.argmax(dim=-1) == batch.labels
            # A share in double precision, where there is any, times the size of the batch is the count again.
            wide = torch.float32 if hits.device.type == "mps" else torch.float64
            metrics = {"accuracy": hits.to(wide).mean()}
            for name, (term, weight, _) in self.regularisers.items() if regularised else ():
                value = term(record)
                loss = loss + weight * value
                metrics[name] = value.detach()
        return Step(loss, metrics, len(batch.labels))

    def scores(self, images: Tensor) -> Tensor:
        """Return logits, or the log of the mean probability over draws: [B, C, Y, X] -> [B, K]."""
        if self.training or not self.no_draws:
            logits: Tensor = self.model(images)
            return logits
        generator = torch.Generator(images.device).manual_seed(SEED_OF_DRAWS)
        with random_draws(self.model):
            draws = [self.model(images, generator=generator).float() for _ in range(self.no_draws)]
        logs = torch.stack(draws).log_softmax(dim=-1)
        return logs.logsumexp(dim=0) - math.log(self.no_draws)

    def set_progress(self, fraction: float) -> None:
        """Pass the share of the training that is done on to the gates of the network."""
        set_progress(self.model, fraction)

    def learned(self) -> dict[str, list[Any]]:
        """Return what the layers learned beside their weights."""
        return learned_numbers(self.model)
