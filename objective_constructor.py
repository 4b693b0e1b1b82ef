"""From the configuration to what is trained and how: ordered stages of an objective, its optimisers and a schedule."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer

from compiling import check_compile
from optim import make_adam, make_optimizer, parameter_groups
from partial_equiv.datasets import DatasetInfo
from partial_equiv.errors import UserError
from partial_equiv.nets import SplitEncoder, SymmetryNet
from partial_equiv.objectives import (
    Canonicalization,
    Classification,
    Objective,
    Regulariser,
    SelfSupervised,
    SymmetryLevel,
    monotonic_penalty,
    published_weight_decay,
)
from partial_equiv.probes import Probe, device_of
from partial_equiv.ranks import no_ranks
from schedules import Schedule, make_schedule
from self_supervised_constructor import construct_self_supervised, notes_of
from train_choices import (
    ClassificationChoices,
    Method,
    SelfSupervisedChoices,
    SymmetryChoices,
    TrainChoices,
    bind_train,
    stage_choices,
)


class Stage(NamedTuple):
    """One phase of a training: an objective and how it is optimised."""

    name: str
    objective: Objective
    optimizers: tuple[Optimizer, ...]
    """That of the objective, which follows the schedule; and that of the heads that watch it, where there are any."""
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
    accumulate: int
    """Batches whose gradients are averaged before a step."""
    notes: tuple[str, ...]
    """What to say before the first step."""
    max_nonfinite: int = 3
    """Steps in a row that are left out, their numbers not being finite, before the training ends."""
    compile: bool = False
    """Whether forward pass, loss and step are compiled."""

    @property
    def optimizer(self) -> Optimizer:
        """The optimiser of what is learned."""
        return self.optimizers[0]


def construct_stages(
    cfg: Mapping[str, Any],
    model: nn.Module,
    steps_per_epoch: int,
    probes: Mapping[str, Probe] = MappingProxyType({}),
    info: DatasetInfo | None = None,
) -> dict[str, Stage]:
    """Return the stages of a training, in order.

    Args:
        cfg: The resolved configuration; `train` and `compile` are read.
        model: What is trained, on its device.
        steps_per_epoch: Batches of the training loader.
        probes: Measured after each epoch.
        info: Facts of the data, for methods that compare views.

    Raises:
        UserError: an unknown method, key or choice, a value out of range, or a combination that does not fit.
    """
    choices = bind_train(cfg)
    objectives = construct_objectives(choices, model, info)
    stages: dict[str, Stage] = {}
    first_epoch = 0
    for name, own in stage_choices(choices, tuple(objectives)).items():
        assert own.epochs is not None and own.lr is not None
        at_stage = replace(choices, epochs=own.epochs, lr=own.lr)
        stage = make_stage(name, objectives[name], at_stage, first_epoch, steps_per_epoch, probes)
        stages[name] = compiled_stage(stage) if cfg.get("compile") else stage
        first_epoch += own.epochs
    return stages


def compiled_stage(stage: Stage) -> Stage:
    """Return a stage that is to be compiled.

    Raises:
        UserError: it cannot be.
    """
    check_compile(stage.objective, device_of(stage.objective))
    note = "compile=True: the first step takes a minute or more; later runs find the compiled code in torch's cache"
    return stage._replace(compile=True, notes=(*stage.notes, note))


def construct_objectives(
    choices: TrainChoices, model: nn.Module, info: DatasetInfo | None = None
) -> dict[str, Objective]:
    """Return the objective of each stage of a method, in order.

    Raises:
        UserError: the method does not train this network, or not on such data.
    """
    method = choices.own
    check_network(method, model)
    if info is not None and info.views and not isinstance(method, SelfSupervisedChoices):
        raise UserError(
            f"dataset={info.name} shows several views at a time, for methods that compare them: set train=sie, for "
            "example, or a data set of single images and augment=none"
        )
    if isinstance(method, ClassificationChoices):
        check_decay(choices, method, model)
        return {"classification": Classification(model, regularisers=regularisers(choices, method))}
    if isinstance(method, SelfSupervisedChoices):
        assert isinstance(model, SplitEncoder) and info is not None
        return {"self_supervised": construct_self_supervised(choices, model, info)}
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
        UserError: a classifier for symmetry inference, an encoder for classification, and so on.
    """
    name = type(model).__name__
    if isinstance(method, SelfSupervisedChoices) and not isinstance(model, SplitEncoder):
        raise UserError(
            f"{method.method} trains an encoder, and net={name} is none: set net=SplitEncoder or SplitCKResNet"
        )
    if isinstance(model, SplitEncoder) and not isinstance(method, SelfSupervisedChoices):
        raise UserError(
            f"net={name} is an encoder of self-supervised methods: set train=sie, for example, or another net"
        )
    if isinstance(method, SymmetryChoices) and not isinstance(model, SymmetryNet):
        raise UserError(f"train=symmetry infers poses and levels, and net={name} has none: set net=SymmetryNet")
    if isinstance(method, ClassificationChoices) and isinstance(model, SymmetryNet):
        raise UserError("net=SymmetryNet has no classes: set train=symmetry, or another net for train=classification")


def check_labels(cfg: Mapping[str, Any], info: DatasetInfo) -> None:
    """Refuse to classify images without labels.

    Raises:
        UserError: the data set has none and the method needs them.
    """
    if not info.labelled and isinstance(bind_train(cfg).own, ClassificationChoices):
        raise UserError(f"dataset={info.name} has no labels to classify: add labels, or set train=symmetry")


def check_decay(choices: TrainChoices, method: ClassificationChoices, model: nn.Module) -> None:
    """Refuse a norm over the sets of all images where each of several processes has a part of them.

    Raises:
        UserError: published decay, sets for images, and several processes.
    """
    decays = choices.weight_decay and method.weight_decay_kind == "published"
    if decays and no_ranks() > 1 and any(getattr(part, "per_batch_element", False) for part in model.modules()):
        raise UserError(
            "train.weight_decay_kind=published takes one norm over the sets of all images, of which each of "
            f"{no_ranks()} processes has a part: set train.weight_decay_kind=decoupled or "
            "base_group.sample_per_batch_element=False, or train in one process"
        )


def regularisers(choices: TrainChoices, method: ClassificationChoices) -> dict[str, Regulariser]:
    """Return the terms that the loss gets, by name."""
    found = {}
    if choices.weight_decay and method.weight_decay_kind == "published":
        found["weight_decay"] = Regulariser(published_weight_decay, choices.weight_decay)
    if method.monotonic_decay_loss:
        found["monotonic_decay"] = Regulariser(monotonic_penalty, method.monotonic_decay_loss, kernels=False)
    return found


def watching_groups(online: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Return the one group of the heads that watch."""
    names, parameters = zip(*online.named_parameters(prefix="online"), strict=True)
    group = {"params": list(parameters), "role": "online", "names": list(names), "lr": lr, "peak_lr": lr}
    return [group | {"weight_decay": 0.0, "coupled": False}]


def make_stage(
    name: str,
    objective: Objective,
    choices: TrainChoices,
    first_epoch: int,
    steps_per_epoch: int,
    probes: Mapping[str, Probe],
) -> Stage:
    """Return a stage with an optimiser and a schedule of its own."""
    own, online, notes = choices.own, objective.watchers(), []
    kind = "decoupled" if isinstance(own, SymmetryChoices) else own.weight_decay_kind
    groups = parameter_groups(
        objective,
        lr=choices.lr,
        lr_probs=choices.lr_probs,
        lr_omega0=choices.lr_omega0,
        weight_decay=0.0 if kind == "published" else choices.weight_decay,
        coupled=kind == "coupled",
        without=None if online is None else "online",
    )
    schedule = make_schedule(
        choices.scheduler,
        choices.scheduler_params,
        lr=choices.lr,
        epochs=choices.epochs,
        steps_per_epoch=steps_per_epoch,
        mode=objective.mode,
    )
    optimizers = [make_optimizer(choices.optimizer, groups, choices.optimizer_params)]
    if isinstance(objective, SelfSupervised):
        assert isinstance(own, SelfSupervisedChoices)
        notes = notes_of(choices, objective)
        if online is not None and own.watching is not None:
            optimizers.append(make_adam(watching_groups(online, own.watching.lr)))
    return Stage(
        name,
        objective,
        tuple(optimizers),
        schedule,
        first_epoch,
        choices.epochs,
        steps_per_epoch,
        choices.gradient_clip,
        choices.precision,
        choices.patience,
        probes,
        own.accumulate if isinstance(own, SelfSupervisedChoices) else 1,
        tuple(notes),
        choices.max_nonfinite,
    )
