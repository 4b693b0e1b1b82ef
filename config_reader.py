"""From the composed configuration to one plain dict: sentinels normalised, root keys checked, stored runs taken up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from partial_equiv.errors import UserError
from partial_equiv.menu import check_values, nearest, parameters
from partial_equiv.runs import check_plain
from sentinels import normalise
from stored_config import stored_config

AUTO = "auto"
"""resume=auto: the newest run of the same configuration."""


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
    do: Literal["train", "evaluate", "export", "report"]
    export: Literal["onnx", "torch", "both"]
    resume: str | None
    run: str | None
    pretrained: str | None
    dry_run: bool
    debug: bool
    skip_finished: bool
    verbose: int
    dataset_params: dict  # type: ignore[type-arg]
    test: dict  # type: ignore[type-arg]
    tensorboard: bool
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

    With `resume` or `run` it is the one that lies in that folder, but for what `overrides` may change. `resume=auto`
    stays as it is: which run that is, the configuration alone can tell.

    Args:
        cfg: What Hydra composed.
        overrides: What was typed, for example ["train.epochs=5"].

    Raises:
        UserError: an unknown key, a wrong type, or a folder that holds no run.
    """
    plain = to_plain(cfg)
    check_plain(plain)
    folder = plain.get("resume") or plain.get("run")
    if folder and folder != AUTO:
        plain = stored_config(Path(str(folder)), plain, overrides)
        check_plain(plain)
    check_root(plain)
    return plain


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """Return resolved, normalised plain values."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return normalise({str(key): value for key, value in container.items()})


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
    if plain["verbose"] not in (0, 1, 2):
        raise UserError(f"verbose={plain['verbose']} is out of range: give 0, 1 or 2")
    if bool(plain["run"]) != (plain["do"] in ("evaluate", "export", "report")):
        raise UserError(
            "do=evaluate, do=export or do=report and run=<run folder> go together: give both, or resume=<run folder> to"
            " train on"
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
