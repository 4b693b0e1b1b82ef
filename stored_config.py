"""The configuration of a run that lies in its folder, and what a command may change of it."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partial_equiv.errors import UserError
from partial_equiv.runs import CHANGES_NOTHING, leaves, read_yaml
from sentinels import normalise, parent

CONFIG = "config.yaml"
MAY_CHANGE_ON_RESUME = (*CHANGES_NOTHING, "debug", "train.epochs", "train.patience", "train.probes", "train.stages")
"""What a continued run may be told anew: how far, where and how it is watched, not what is computed."""
MAY_CHANGE_ON_EVALUATE = (
    "compile",
    "cuda_visible_devices",
    "dataset.download",
    "dataset.root",
    "dataset.test_root",
    "dataset.test_rotation",
    "debug",
    "device",
    "do",
    "export",
    "no_workers",
    "run",
    "skip_finished",
    "tensorboard",
    "test",
    "train.batch_size",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.max_minutes",
    "train.max_nonfinite",
    "train.probes",
    "verbose",
    "wandb",
)

LATER_KEYS: Mapping[str, dict[str, Any]] = {
    "MNIST": {"size": None, "rot_normal": None, "turn_test": True},
    "CIFAR10": {"size": None},
    "CIFAR100": {"size": None},
    "PCam": {"size": None, "circle_crop": False},
}
"""Keys of data sets that came after version 0.1.0, and the values that mean what there was before them."""


def stored_config(folder: Path, asked: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the configuration of a run folder, changed only by overrides that may change it.

    Raises:
        UserError: the folder holds no readable configuration, or an override may not change it.
    """
    word, may_change = ("resume", MAY_CHANGE_ON_RESUME) if asked.get("resume") else ("run", MAY_CHANGE_ON_EVALUATE)
    stored = read_stored(folder, word)
    dataset = stored.get("dataset")
    if isinstance(dataset, dict):  # else the check of the keys says so
        stored["dataset"] = LATER_KEYS.get(str(dataset.get("type")), {}) | dataset
    for path in (*may_change, "test", "export"):
        if one_kind(stored, asked, path.partition(".")[0]):
            take_up(stored, asked, path)
    refused: list[str] = []
    for override in overrides:
        path = override.partition("=")[0].lstrip("+~").partition("@")[0]
        if not any(path == allowed or path.startswith(f"{allowed}.") for allowed in may_change):
            refused += differences(stored, asked, path, may_change)
            continue
        source, key = parent(asked, path)
        target, _ = parent(stored, path)
        if source is not None and key in source and target is not None:
            target[key] = copy.deepcopy(source[key])
    if refused:
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise UserError(
            f"{word}={folder} keeps that run's own configuration, and these differ: {'; '.join(refused[:5])}{more}: "
            f"leave them out (only these may change: {', '.join(may_change)})"
        )
    return normalise(stored | {word: str(folder)})


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any], path: str, but: Sequence[str]) -> list[str]:
    """Return, in words, where the values at a dotted path differ; of a path that is no key, in the whole tree.

    An experiment is such a path: it says something of every group.
    """
    own, given = leaves(normalise(stored), but), leaves(asked, (*but, "do", "export", "run", "test"))
    below = [key for key in {**own, **given} if key == path or key.startswith(f"{path}.")]
    absent = "absent"
    return [
        f"{key} is {own.get(key, absent)!r} there and {given[key]!r} here"
        for key in below or given
        if key in given and own.get(key, absent) != given[key]
    ]


def one_kind(stored: Mapping[str, Any], asked: Mapping[str, Any], group: str) -> bool:
    """Say whether a group of keys is of one type in both: the stages of one method are no default for another's."""
    kinds = [tree[group].get("type") for tree in (stored, asked) if isinstance(tree.get(group), dict)]
    return len(set(kinds)) <= 1


def take_up(stored: dict[str, Any], asked: Mapping[str, Any], path: str) -> None:
    """Give a stored run the keys at `path` that came into being after it, with the values of today."""
    source, key = parent(asked, path)
    target, _ = parent(stored, path)
    if source is None or target is None or key not in source:
        return
    if isinstance(source[key], dict) and isinstance(target.get(key), dict):
        target[key] = source[key] | target[key]
    else:
        target.setdefault(key, copy.deepcopy(source[key]))


def read_stored(folder: Path, word: str) -> dict[str, Any]:
    """Return the content of a run folder's config.yaml.

    Raises:
        UserError: there is none, or it is no set of keys.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(f"{word}={folder} is not a run folder, it holds no {CONFIG}: give outputs/<date>/<time>")
    return read_yaml(path)
