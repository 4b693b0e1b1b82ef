"""Online probes: heads that are trained beside a network and never touch it.

Axes: B examples, w numbers of a source, K classes, L numbers of a target.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


class OnlineProbes(nn.Module):
    """Read classes and rotations off detached features while these are being learned.

    Classes: a linear head on each view. Rotations: a network 2 w -> 2 w -> 2 w -> L with ReLU on both views side by
    side, by mean squared error. A source named *_inv has the first kind, *_equi the second, any other both. They chase
    a network that changes, and are measured on what they have just learned from: a sign of life, no result.

    Of "online_mse" an honest R^2 is 1 - mse / v, v the mean over the target's numbers of their variance: a ratio of
    totals, which is no mean over batches and therefore not among the metrics.

    Args:
        widths: Source -> w, such as {"representation": 128, "representation_inv": 64, "representation_equi": 64}.
        no_classes: K; 0 without labels.
        no_targets: L; 0 where no rotations are known.
    Shape:
        features: source -> (x [B, w], y [B, w]); labels [B]; target [B, L] or None where L is 0
        -> loss [], the sum over heads; metrics "online_top1_<source>", "online_mse_<source>": means over the batch.
    Source: Garrido et al. 2023. Differs: the loss is returned apart, for an optimiser of its own; always in the
        precision of the heads, also under autocast.
    """

    def __init__(self, widths: Mapping[str, int], *, no_classes: int, no_targets: int) -> None:
        super().__init__()
        classes = {name: width for name, width in widths.items() if no_classes and not name.endswith("_equi")}
        turns = {name: width for name, width in widths.items() if no_targets and not name.endswith("_inv")}
        self.classes = nn.ModuleDict({name: nn.Linear(width, no_classes) for name, width in classes.items()})
        self.turns = nn.ModuleDict({name: pair_head(2 * width, no_targets) for name, width in turns.items()})

    def forward(
        self, features: Mapping[str, tuple[Tensor, Tensor]], labels: Tensor, target: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of all heads, and their metrics."""
        metrics: dict[str, Tensor] = {}
        loss = torch.zeros((), device=labels.device)
        with torch.autocast(labels.device.type, enabled=False):
            for name, head in self.classes.items():
                logits = head(torch.cat(detached(features[name], head)))
                twice = labels.repeat(2)
                loss = loss + functional.cross_entropy(logits, twice)
                metrics[f"online_top1_{name}"] = (logits.argmax(dim=-1) == twice).to(loss.dtype).mean()
            for name, head in self.turns.items():
                assert target is not None, "heads for rotations need rotations"
                guess = head(torch.cat(detached(features[name], head), dim=-1))
                error = functional.mse_loss(guess, target.to(guess.dtype))
                loss = loss + error
                metrics[f"online_mse_{name}"] = error.detach()
        return loss, metrics


def pair_head(width: int, no_targets: int) -> nn.Sequential:
    """Return a network of two hidden layers as wide as its input."""
    hidden = (nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(width, no_targets))


def detached(views: tuple[Tensor, Tensor], head: nn.Module) -> list[Tensor]:
    """Return both views without their graph, in the precision of a head."""
    dtype = next(head.parameters()).dtype
    return [view.detach().to(dtype) for view in views]
