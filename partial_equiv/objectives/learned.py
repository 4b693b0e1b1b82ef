"""What the layers of a network learn beside their weights, worth a line per epoch."""

from typing import Any

from torch import nn

from partial_equiv.nets import learned_subsets


def learned_numbers(model: nn.Module) -> dict[str, list[Any]]:
    """Return levels and mirror probabilities per layer, the gates of learned grids, and learned frequencies."""
    subsets = learned_subsets(model)
    found: dict[str, list[Any]] = {
        "levels": [subset.level for subset in subsets],
        "mirror": [subset.mirror for subset in subsets],
    }
    found |= {f"gates/{subset.name}": subset.gates for subset in subsets if subset.gates}
    frequencies = [getattr(module, "omega0", None) for module in model.modules()]
    omega0 = [float(value.detach()) for value in frequencies if isinstance(value, nn.Parameter)]
    return found | ({"omega0": omega0} if omega0 else {})
