"""From the composed configuration to one plain dict: sentinels normalised, root keys checked, stored runs taken up."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf

from partial_equiv.errors import UserError
from partial_equiv.menu import check_values, nearest, parameters

CONFIG = "config.yaml"
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

MAY_CHANGE_ON_RESUME = (
    "comment",
    "compile",
    "cuda_visible_devices",
    "debug",
    "device",
    "no_workers",
    "resume",
    "train.epochs",
    "train.patience",
    "train.probes",
    "train.stages",
    "wandb",
)
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
    "test",
    "train.batch_size",
    "train.probes",
    "wandb",
)

LATER_KEYS: Mapping[str, dict[str, Any]] = {
    "MNIST": {"size": None, "rot_normal": None, "turn_test": True},
    "CIFAR10": {"size": None},
    "CIFAR100": {"size": None},
    "PCam": {"size": None, "circle_crop": False},
}
"""Keys of data sets that came after version 0.1.0, and the values that mean what there was before them."""


@dataclass(frozen=True, kw_only=True)
class RootChoices:
    """The keys at the root of the configuration; see `cfg/config.yaml`."""

    seed: int
    device: Literal["auto", "cpu", "cuda", "mps"]
    cuda_visible_devices: list[int] | int | None
    no_workers: int
    compile: bool
    augment: str
    comment: str | int | float
    do: Literal["train", "evaluate", "export"]
    export: Literal["onnx", "torch", "both"]
    resume: str | None
    run: str | None
    pretrained: str | None
    dry_run: bool
    debug: bool
    dataset_params: dict  # type: ignore[type-arg]
    test: dict  # type: ignore[type-arg]
    wandb: dict  # type: ignore[type-arg]
    net: dict  # type: ignore[type-arg]
    conv: dict  # type: ignore[type-arg]
    kernel: dict  # type: ignore[type-arg]
    base_group: dict  # type: ignore[type-arg]
    dataset: dict  # type: ignore[type-arg]
    train: dict  # type: ignore[type-arg]


@dataclass(frozen=True, kw_only=True)
class WandbChoices:
    """The keys of `wandb`."""

    mode: str
    project: str


@dataclass(frozen=True, kw_only=True)
class DatasetParams:
    """The keys of `dataset_params`."""

    rot_interval: float


def read_config(cfg: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the configuration as plain values: resolved, normalised and, at its root, checked.

    With `resume` or `run` it is the one that lies in that folder, but for what `overrides` may change.

    Args:
        cfg: What Hydra composed.
        overrides: What was typed, for example ["train.epochs=5"].

    Raises:
        UserError: an unknown key, a wrong type, or a folder that holds no run.
    """
    plain = to_plain(cfg)
    folder = plain.get("resume") or plain.get("run")
    if folder:
        plain = stored_config(Path(str(folder)), plain, overrides)
    check_root(plain)
    return plain


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """Return resolved, normalised plain values."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return normalise({str(key): value for key, value in container.items()})


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


def check_root(plain: Mapping[str, Any]) -> None:
    """Check the keys and types that no constructor checks.

    Raises:
        UserError: an unknown or missing key, a wrong type, a value out of range, or `run` and `do` that do not fit.
    """
    check_keys(RootChoices, plain, "")
    check_keys(WandbChoices, plain["wandb"], "wandb.")
    check_keys(DatasetParams, plain["dataset_params"], "dataset_params.")
    if not 0 <= plain["seed"] < 2**32:
        raise UserError(f"seed={plain['seed']} is out of range: give 0 to {2**32 - 1}")
    if plain["resume"] and plain["run"]:
        raise UserError("resume= continues a run and run= uses a finished one: give one of them")
    if bool(plain["run"]) != (plain["do"] in ("evaluate", "export")):
        raise UserError(
            "do=evaluate or do=export and run=<run folder> go together: give both, or resume=<run folder> to train on"
        )


def check_keys(kind: type, values: Mapping[str, Any], prefix: str) -> None:
    """Check that `values` are the fields of `kind`, each of its type.

    Raises:
        UserError: an unknown or missing key, or a wrong type.
    """
    known = parameters(kind)
    for key in values:
        if key not in known:
            raise UserError(f"{prefix}{key} is not a key: {', '.join(known)}{nearest(str(key), known)}")
    for key in known:
        if key not in values:
            raise UserError(f"{prefix}{key} is missing: give {prefix}{key}=<value>")
    for key, value in values.items():
        if known[key].annotation is dict and not isinstance(value, dict):
            raise UserError(f"{prefix}{key}={value!r} replaces a group of keys: give {prefix}{key}.<key>=<value>")
    try:
        check_values(kind, values, "@")
    except UserError as error:
        raise UserError(str(error).replace("@.", prefix, 1)) from None


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
    for override in overrides:
        path = override.partition("=")[0].lstrip("+~").partition("@")[0]
        if not any(path == allowed or path.startswith(f"{allowed}.") for allowed in may_change):
            raise UserError(
                f"{word}={folder} keeps that run's own configuration: leave out {override} "
                f"(only these may change: {', '.join(may_change)})"
            )
        source, key = parent(asked, path)
        target, _ = parent(stored, path)
        if source is not None and key in source and target is not None:
            target[key] = copy.deepcopy(source[key])
    return normalise(stored | {word: str(folder)})


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
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(stored, dict):
        raise UserError(f"{path} is not a set of keys: give the folder of a run")
    return stored
