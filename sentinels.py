"""Published ways to say "nothing" in a configuration, and what they mean here."""

import copy
from collections.abc import Mapping
from typing import Any

ABSENT: list[Any] = [None, "", "None", "none"]
NOTHING: list[Any] = [None]
SENTINELS: Mapping[str, tuple[list[Any], Any]] = {
    "augment": (ABSENT, "none"),
    "comment": (NOTHING, ""),
    "cuda_visible_devices": ([[-1], -1], None),
    "kernel.activation": (ABSENT, None),
    "kernel.norm": (ABSENT, None),
    "net.block_width_factors": ([[0.0], []], None),
    "net.dropout_blocks": ([[-1], None], []),
    "net.pool_blocks": ([[-1], None], []),
    "pretrained": ([False, "", "None"], None),
    "resume": (ABSENT, None),
    "run": (ABSENT, None),
    "train.gradient_clip": ([0, 0.0], None),
    "train.lr_omega0": ([0, 0.0], None),
    "train.lr_probs": ([0, 0.0], None),
    "train.optimizer_params.momentum": (ABSENT, None),
    "train.optimizer_params.nesterov": (ABSENT, None),
    "train.scheduler": (ABSENT, None),
    "train.scheduler_params.decay_factor": ([-1, -1.0], None),
    "train.scheduler_params.decay_steps": ([-1, [-1], []], None),
    "train.scheduler_params.patience": ([-1], None),
    "train.scheduler_params.warmup_epochs": ([-1], None),
}
"""Published ways to say "nothing", and what they mean here."""


def normalise(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which every published sentinel is replaced by what it means here."""
    result = copy.deepcopy(dict(plain))
    for path, (sentinels, meaning) in SENTINELS.items():
        node, key = parent(result, path)
        if node is not None and key in node and any(same(node[key], sentinel) for sentinel in sentinels):
            node[key] = copy.copy(meaning)
    for key in ("resume", "run", "pretrained"):
        # A folder may be called 7.
        if isinstance(result.get(key), int) and not isinstance(result[key], bool):
            result[key] = str(result[key])
    return result


def same(value: Any, sentinel: Any) -> bool:
    """Say whether two values are equal and of one type, so that False is not 0."""
    return type(value) is type(sentinel) and bool(value == sentinel)


def parent(tree: Any, path: str) -> tuple[dict[str, Any] | None, str]:
    """Return the dict that holds the last key of a dotted path, None where there is none, and that key."""
    *above, last = path.split(".")
    for key in above:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return (tree if isinstance(tree, dict) else None), last
