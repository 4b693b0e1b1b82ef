"""From the configuration to what is trained and how: ordered stages, the objective of the test, and probes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from torch import nn
from torch.optim import Optimizer

from optim import make_optimizer, parameter_groups
from partial_equiv.datasets import DatasetInfo
from partial_equiv.errors import UserError
from partial_equiv.menu import bind, choose, nearest, parameters
from partial_equiv.objectives import (
    Classification,
    Objective,
    Regulariser,
    monotonic_penalty,
    published_weight_decay,
)
from partial_equiv.probes import PROBES, Probe
from partial_equiv.sampling import set_hard_gates
from schedules import Schedule, make_schedule


class Stage(NamedTuple):
    """One phase of a training: an objective and how it is optimised."""

    name: str
    objective: Objective
    optimizer: Optimizer
    schedule: Schedule
    first_epoch: int
    """Epochs of the stages before, so that epochs are counted through."""
    epochs: int
    steps_per_epoch: int
    gradient_clip: float | None
    precision: str
    patience: int | None
    probes: Mapping[str, Probe]
    """Measured after each epoch on the validation images."""


@dataclass(frozen=True, kw_only=True)
class TrainChoices:
    """What `cfg/train/classification.yaml` holds; see there."""

    do: bool
    batch_size: int
    epochs: int
    stages: dict  # type: ignore[type-arg]
    lr: float
    lr_probs: float | None
    lr_omega0: float | None
    optimizer: str
    optimizer_params: dict  # type: ignore[type-arg]
    scheduler: str | None
    scheduler_params: dict  # type: ignore[type-arg]
    weight_decay: float
    weight_decay_kind: Literal["decoupled", "published"]
    monotonic_decay_loss: float
    gradient_clip: float | None
    precision: Literal["float32", "bfloat16"]
    patience: int | None
    probes: list[str]

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: a number is out of range.
        """
        for key in ("lr", "lr_probs", "lr_omega0", "gradient_clip"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"train.{key}={value} is out of range: give a number above 0, for example 0.001")
        for key in ("weight_decay", "monotonic_decay_loss"):
            if not 0 <= getattr(self, key) < math.inf:
                raise UserError(f"train.{key}={getattr(self, key)} is out of range: give 0 (off) or more")
        for key in ("batch_size", "epochs", "patience"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"train.{key}={value} is out of range: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class StageChoices:
    """What a stage may say for itself; null takes the value of `train`."""

    epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationChoices:
    """What `test` in `cfg/config.yaml` holds; see there."""

    no_draws: int
    hard_gates: bool
    probes: list[str]
    orbit: dict  # type: ignore[type-arg]
    audit: dict  # type: ignore[type-arg]


def construct_stages(
    cfg: Mapping[str, Any], model: nn.Module, steps_per_epoch: int, probes: Mapping[str, Probe] = MappingProxyType({})
) -> dict[str, Stage]:
    """Return the stages of a training, in order.

    Args:
        cfg: The resolved configuration; `train` is read.
        model: What is trained, on its device.
        steps_per_epoch: Batches of the training loader.
        probes: Measured after each epoch.

    Raises:
        UserError: an unknown method, key or choice, a value out of range, or a combination that does not fit.
    """
    choices: TrainChoices = bind_train(cfg)
    stages: dict[str, Stage] = {}
    first_epoch = 0
    for name, epochs in stage_epochs(choices, ("classification",)).items():
        objective = Classification(model, regularisers=regularisers(choices))
        stages[name] = make_stage(name, objective, choices, first_epoch, epochs, steps_per_epoch, probes)
        first_epoch += epochs
    return stages


def bind_train(cfg: Mapping[str, Any]) -> TrainChoices:
    """Return the checked choices of `train`."""
    keywords = dict(cfg["train"])
    name = keywords.pop("type", None)
    choose(METHODS, name, "train.type")
    return bind(METHODS, name, keywords, "train")()


METHODS = {"classification": TrainChoices}


def stage_epochs(choices: TrainChoices, names: tuple[str, ...]) -> dict[str, int]:
    """Return the epochs of each stage: its own, or those of `train`."""
    for name in choices.stages:
        if name not in names:
            known = ", ".join(names)
            raise UserError(f"train.stages.{name} is not a stage of this method: {known}{nearest(name, names)}")
    found = {}
    for name in names:
        given = choices.stages.get(name) or {}
        if not isinstance(given, dict):
            raise UserError(f"train.stages.{name}={given!r} is not a group of keys: give train.stages.{name}.epochs=5")
        epochs = bind({name: StageChoices}, name, given, f"train.stages.{name}")().epochs
        if epochs is not None and epochs < 1:
            raise UserError(f"train.stages.{name}.epochs={epochs} is out of range: give 1 or more, or null")
        found[name] = epochs or choices.epochs
    return found


def regularisers(choices: TrainChoices) -> dict[str, Regulariser]:
    """Return the terms that the loss gets, by name."""
    found = {}
    if choices.weight_decay and choices.weight_decay_kind == "published":
        found["weight_decay"] = Regulariser(published_weight_decay, choices.weight_decay)
    if choices.monotonic_decay_loss:
        found["monotonic_decay"] = Regulariser(monotonic_penalty, choices.monotonic_decay_loss)
    return found


def make_stage(
    name: str,
    objective: Objective,
    choices: TrainChoices,
    first_epoch: int,
    epochs: int,
    steps_per_epoch: int,
    probes: Mapping[str, Probe],
) -> Stage:
    """Return a stage with an optimiser and a schedule of its own."""
    groups = parameter_groups(
        objective,
        lr=choices.lr,
        lr_probs=choices.lr_probs,
        lr_omega0=choices.lr_omega0,
        weight_decay=choices.weight_decay if choices.weight_decay_kind == "decoupled" else 0.0,
    )
    schedule = make_schedule(
        choices.scheduler,
        choices.scheduler_params,
        lr=choices.lr,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        mode=objective.mode,
    )
    optimizer = make_optimizer(choices.optimizer, groups, choices.optimizer_params)
    return Stage(
        name,
        objective,
        optimizer,
        schedule,
        first_epoch,
        epochs,
        steps_per_epoch,
        choices.gradient_clip,
        choices.precision,
        choices.patience,
        probes,
    )


def construct_test(cfg: Mapping[str, Any], model: nn.Module) -> Classification:
    """Return the objective that a finished model is tested with: no regularisers, and the choices of `test`.

    Raises:
        UserError: an unknown key, a wrong type, or a negative number of draws.
    """
    choices = bind_test(cfg)
    set_hard_gates(model, choices.hard_gates)
    return Classification(model, no_draws=choices.no_draws)


def construct_probes(
    cfg: Mapping[str, Any], info: DatasetInfo, when: Literal["train", "test"] = "test"
) -> dict[str, Probe]:
    """Return the probes that `test.probes` or `train.probes` names; the keys of each are those of `test.<name>`.

    Raises:
        UserError: an unknown name, or any mistake in `test`.
    """
    choices = bind_test(cfg) if when == "test" else bind_train(cfg)
    found: dict[str, Probe] = {}
    for name in choices.probes:
        make = choose(PROBES, name, f"{when}.probes")
        facts = {"class_names": info.class_names} if "class_names" in parameters(make) else {}
        found[name] = bind({name: make}, name, {**cfg["test"].get(name, {}), **facts}, f"test.{name}")()
    return found


def bind_test(cfg: Mapping[str, Any]) -> EvaluationChoices:
    """Return the checked choices of `test`."""
    choices: EvaluationChoices = bind({"test": EvaluationChoices}, "test", cfg["test"], "test")()
    if choices.no_draws < 0:
        raise UserError(f"test.no_draws={choices.no_draws} is negative: give 0 (fixed elements) or a number of draws")
    return choices
