"""What the terms of a self-supervised method take of a batch of views, under the names that `method` lists."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from partial_equiv.datasets import Views
from partial_equiv.objectives.method import JOIN, PARTS

if TYPE_CHECKING:
    from partial_equiv.objectives.self_supervised import SelfSupervised


class Signals:
    """Signals of one batch, computed when first asked for and kept.

    Args:
        objective: Its parts compute.
        batch: Views.
    """

    def __init__(self, objective: "SelfSupervised", batch: Views) -> None:
        self.objective, self.batch = objective, batch
        self.views = objective.method.views
        self.view_index = {view: index for index, view in enumerate(self.views)}
        # All views first, and in order: the running statistics of batch norms depend on it.
        self.found: dict[str, Tensor] = {
            f"{view}.h": objective.model(batch.images[:, index]) for view, index in self.view_index.items()
        }

    def joined(self, text: str) -> Tensor:
        """Return a signal, or several joined by "+"."""
        parts = [self.signal(name) for name in text.split(JOIN)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def pair(self, kinds: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return signals of the first and of the last view, joined."""
        first, last = (
            self.joined(JOIN.join(f"{view}.{what}" for what in kinds)) for view in (self.views[0], self.views[-1])
        )
        return first, last

    def signal(self, name: str) -> Tensor:
        """Return one signal."""
        if name not in self.found:
            self.found[name] = self.compute(name)
        return self.found[name]

    def compute(self, name: str) -> Tensor:
        """Compute a signal from those it is made of."""
        objective, latents = self.objective, self.batch.latents
        if name == "labels":
            return self.batch.labels
        if name == "latent":
            return objective.encoding.relative(latents[:, 0], latents[:, -1])
        if name == "regression":
            assert objective.regressor is not None and objective.method.regressed is not None
            regression: Tensor = objective.regressor(*self.pair([objective.method.regressed]))
            return regression
        return self.of_view(*name.split("."))

    def of_view(self, view: str, what: str) -> Tensor:
        """Compute a signal of one view."""
        objective, method = self.objective, self.objective.method
        if what in PARTS:
            return objective.model.part(self.signal(f"{view}.h"), PARTS[what])
        if what == "logits":
            assert objective.classifier is not None
            logits: Tensor = objective.classifier(self.signal(f"{view}.{method.classified}"))
            return logits
        if what == "predicted":
            assert method.predicted is not None
            source, latents = method.predicted.source, self.batch.latents
            there, here = latents[:, self.view_index[source]], latents[:, self.view_index[view]]
            return objective.predict(self.signal(f"{source}.{method.predicted.of}"), there, here)
        if what in method.projectors:
            embedding: Tensor = objective.projectors[what](self.signal(f"{view}.{method.projectors[what].of}"))
            return embedding
        whole, _, end = what.rpartition("_")
        equi = method.projectors[whole].equi
        assert equi is not None
        embedding = self.signal(f"{view}.{whole}")
        return embedding[:, -equi:] if end == "equi" else embedding[:, :-equi]
