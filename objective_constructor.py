"""From the configuration to what is trained and how: ordered stages, the objective of the test, and probes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import yaml
from torch import nn
from torch.optim import Optimizer

from optim import make_optimizer, parameter_groups
from partial_equiv.datasets import DatasetInfo, ImageSet
from partial_equiv.errors import UserError
from partial_equiv.menu import bind, choose, parameters
from partial_equiv.nets import SymmetryNet
from partial_equiv.objectives import (
    Canonicalization,
    Classification,
    Objective,
    Regulariser,
    SymmetryLevel,
    monotonic_penalty,
    published_weight_decay,
)
from partial_equiv.probes import PROBES, Probe
from partial_equiv.sampling import set_hard_gates
from schedules import Schedule, make_schedule
from train_choices import ClassificationChoices, Method, SymmetryChoices, TrainChoices, bind_train, stage_choices

OPTIONS = Path(__file__).parent / "cfg/dataset"


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
class EvaluationChoices:
    """What `test` in `cfg/config.yaml` holds; see there."""

    no_draws: int
    hard_gates: bool
    probes: list[str]
    orbit: dict  # type: ignore[type-arg]
    audit: dict  # type: ignore[type-arg]
    ood: dict  # type: ignore[type-arg]
    clusters: dict  # type: ignore[type-arg]
    downstream: dict  # type: ignore[type-arg]
    data_symmetry: dict  # type: ignore[type-arg]


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
    choices = bind_train(cfg)
    objectives = construct_objectives(choices, model)
    stages: dict[str, Stage] = {}
    first_epoch = 0
    for name, own in stage_choices(choices, tuple(objectives)).items():
        assert own.epochs is not None and own.lr is not None
        at_stage = replace(choices, epochs=own.epochs, lr=own.lr)
        stages[name] = make_stage(name, objectives[name], at_stage, first_epoch, steps_per_epoch, probes)
        first_epoch += own.epochs
    return stages


def construct_objectives(choices: TrainChoices, model: nn.Module) -> dict[str, Objective]:
    """Return the objective of each stage of a method, in order.

    Raises:
        UserError: the method does not train this network.
    """
    method = choices.method
    check_network(method, model)
    if isinstance(method, ClassificationChoices):
        return {"classification": Classification(model, regularisers=regularisers(choices, method))}
    assert isinstance(model, SymmetryNet)
    return {
        "autoencoder": Canonicalization(
            model,
            centre=method.centre,
            centre_weight=method.centre_weight,
            turned=method.turned,
            selection=method.selection,
        ),
        "levels": SymmetryLevel(
            model,
            no_neighbours=method.no_neighbours,
            estimator=method.estimator,
            corrections=method.corrections,
        ),
    }


def check_network(method: Method, model: nn.Module) -> None:
    """Refuse a network that a method cannot train.

    Raises:
        UserError: a classifier for symmetry inference, or its network for classification.
    """
    name = type(model).__name__
    if isinstance(method, SymmetryChoices) and not isinstance(model, SymmetryNet):
        raise UserError(f"train=symmetry infers poses and levels, and net={name} has none: set net=SymmetryNet")
    if isinstance(method, ClassificationChoices) and isinstance(model, SymmetryNet):
        raise UserError("net=SymmetryNet has no classes: set train=symmetry, or another net for train=classification")


def check_labels(cfg: Mapping[str, Any], info: DatasetInfo) -> None:
    """Refuse to classify images without labels.

    Raises:
        UserError: the data set has none and the method needs them.
    """
    if not info.labelled and isinstance(bind_train(cfg).method, ClassificationChoices):
        raise UserError(f"dataset={info.name} has no labels to classify: add labels, or set train=symmetry")


def regularisers(choices: TrainChoices, method: ClassificationChoices) -> dict[str, Regulariser]:
    """Return the terms that the loss gets, by name."""
    found = {}
    if choices.weight_decay and method.weight_decay_kind == "published":
        found["weight_decay"] = Regulariser(published_weight_decay, choices.weight_decay)
    if method.monotonic_decay_loss:
        found["monotonic_decay"] = Regulariser(monotonic_penalty, method.monotonic_decay_loss)
    return found


def make_stage(
    name: str,
    objective: Objective,
    choices: TrainChoices,
    first_epoch: int,
    steps_per_epoch: int,
    probes: Mapping[str, Probe],
) -> Stage:
    """Return a stage with an optimiser and a schedule of its own."""
    in_loss = isinstance(choices.method, ClassificationChoices) and choices.method.weight_decay_kind == "published"
    groups = parameter_groups(
        objective,
        lr=choices.lr,
        lr_probs=choices.lr_probs,
        lr_omega0=choices.lr_omega0,
        weight_decay=0.0 if in_loss else choices.weight_decay,
    )
    schedule = make_schedule(
        choices.scheduler,
        choices.scheduler_params,
        lr=choices.lr,
        epochs=choices.epochs,
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
        choices.epochs,
        steps_per_epoch,
        choices.gradient_clip,
        choices.precision,
        choices.patience,
        probes,
    )


def construct_test(cfg: Mapping[str, Any], model: nn.Module) -> Objective:
    """Return the objective that a finished model is tested with: no regularisers, and the choices of `test`.

    Levels are no mean over batches, so that symmetry inference is tested by its reconstructions and by probes.

    Raises:
        UserError: an unknown key, a wrong type, or a negative number of draws.
    """
    choices = bind_test(cfg)
    set_hard_gates(model, choices.hard_gates)
    if isinstance(model, SymmetryNet):
        return construct_objectives(bind_train(cfg), model)["autoencoder"]
    return Classification(model, no_draws=choices.no_draws)


def construct_probes(
    cfg: Mapping[str, Any],
    info: DatasetInfo,
    when: Literal["train", "test"] = "test",
    train: ImageSet | None = None,
) -> dict[str, Probe]:
    """Return the probes that `test.probes` or `train.probes` names; the keys of each are those of `test.<name>`.

    Args:
        cfg: The resolved configuration; `test` and `train.probes` are read.
        info: Facts of the data; a probe takes those that it names.
        when: Which list.
        train: The training images, for probes that fit something on them; None where no probe will be run.

    Raises:
        UserError: an unknown name, or any mistake in `test`.
    """
    choices = bind_test(cfg) if when == "test" else bind_train(cfg)
    found: dict[str, Probe] = {}
    known = {"class_names": info.class_names, "laws": info.laws, "train": train, "seed": cfg.get("seed")}
    if "data_symmetry" in choices.probes:
        known["dataset_words"] = dataset_words(cfg["dataset"])
    for name in choices.probes:
        make = choose(PROBES, name, f"{when}.probes")
        facts = {key: value for key, value in known.items() if key in parameters(make)}
        found[name] = bind({name: make}, name, cfg["test"].get(name, {}), f"test.{name}", later=tuple(facts))(**facts)
    return found


def dataset_words(chosen: Mapping[str, Any]) -> list[str]:
    """Return the words of the command line that choose a data set: its option, and every key that is not its default.

    What an option file takes from the environment, such as a folder, stays with the environment.
    """
    option = OPTIONS / f"{chosen.get('type')}.yaml"
    defaults = yaml.safe_load(option.read_text(encoding="utf-8")) if option.is_file() else {}
    changed = {
        key: value
        for key, value in chosen.items()
        if key != "type" and defaults.get(key) != value and not str(defaults.get(key)).startswith("${")
    }
    words = [
        f"dataset.{key}={json.dumps(value).replace(chr(34), '').replace(' ', '')}" for key, value in changed.items()
    ]
    return [f"dataset={chosen.get('type')}", *words]


def bind_test(cfg: Mapping[str, Any]) -> EvaluationChoices:
    """Return the checked choices of `test`."""
    choices: EvaluationChoices = bind({"test": EvaluationChoices}, "test", cfg["test"], "test")()
    if choices.no_draws < 0:
        raise UserError(f"test.no_draws={choices.no_draws} is negative: give 0 (fixed elements) or a number of draws")
    return choices
