"""What `cfg/train/*.yaml` may say, checked: choices of the loop, of one stage, and of each method."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from partial_equiv.errors import UserError
from partial_equiv.menu import bind, choose, fill, nearest, parameters


@dataclass(frozen=True, kw_only=True)
class ClassificationChoices:
    """What `cfg/train/classification.yaml` says beyond the loop; see there."""

    weight_decay_kind: Literal["decoupled", "published"]
    monotonic_decay_loss: float

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: a number is out of range.
        """
        check_not_negative("monotonic_decay_loss", self.monotonic_decay_loss)


@dataclass(frozen=True, kw_only=True)
class SymmetryChoices:
    """What `cfg/train/symmetry.yaml` says beyond the loop; see there."""

    centre: Literal["cos", "geodesic", "l1_identity"] | None
    centre_weight: float
    turned: bool
    selection: Literal["loss", "reconstruction"]
    no_neighbours: int
    estimator: str
    corrections: dict  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: a number is out of range, or an unknown correction.
        """
        check_not_negative("centre_weight", self.centre_weight)
        if self.no_neighbours < 2:
            raise UserError(f"train.no_neighbours={self.no_neighbours} is out of range: give 2 or more, for example 45")
        fill(Corrections, self.corrections, "train.corrections")


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """Switches of `partial_equiv.symmetry.estimate`."""

    signed: bool
    centring: bool
    trimming: float
    noise_correction: bool


@dataclass(frozen=True, kw_only=True)
class Online:
    """Keys of `train.online`."""

    every: int
    lr: float


@dataclass(frozen=True, kw_only=True)
class SelfSupervisedChoices:
    """What `cfg/train/self_supervised/` and a row beside it say beyond the loop; see there."""

    accumulate: int
    weight_decay_kind: Literal["coupled", "decoupled"]
    selection: Literal["last", "loss"]
    method: str
    mlp: str | int
    sim_coeff: float
    equi_factor: float
    std_coeff: float
    cov_coeff: float
    ec_weight: float
    simclr_temp: float
    latents: list[str]
    encoding: dict  # type: ignore[type-arg]
    predictor: dict  # type: ignore[type-arg]
    online: dict | None  # type: ignore[type-arg]
    views: list[str]
    projectors: dict  # type: ignore[type-arg]
    predicted: dict | None  # type: ignore[type-arg]
    regressed: str | None
    classified: str | None
    terms: dict  # type: ignore[type-arg]

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: a number is out of range.
        """
        for key in COEFFICIENTS:
            check_not_negative(key, getattr(self, key))
        check_positive("train.simclr_temp", self.simclr_temp)
        check_count("train.accumulate", self.accumulate)
        watching = self.watching
        if watching is not None:
            check_count("train.online.every", watching.every)
            check_positive("train.online.lr", watching.lr)

    @property
    def watching(self) -> Online | None:
        """The checked keys of `online`."""
        return None if self.online is None else fill(Online, self.online, "train.online")

    @property
    def coefficients(self) -> dict[str, float]:
        """What the weights of terms may name."""
        return {key: getattr(self, key) for key in COEFFICIENTS}


COEFFICIENTS = ("sim_coeff", "equi_factor", "std_coeff", "cov_coeff", "ec_weight")
Method = ClassificationChoices | SymmetryChoices | SelfSupervisedChoices
METHODS: Mapping[str, type[Method]] = {
    "classification": ClassificationChoices,
    "symmetry": SymmetryChoices,
    "self_supervised": SelfSupervisedChoices,
}


@dataclass(frozen=True, kw_only=True)
class TrainChoices:
    """What every method says of the training loop, and what this one says beyond it."""

    own: Method
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
    gradient_clip: float | None
    precision: Literal["float32", "bfloat16"]
    patience: int | None
    max_nonfinite: int
    max_minutes: float | None
    checkpoint_every: int | str | None
    keep_checkpoints: int
    probes: list[str]

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: a number is out of range.
        """
        for key in ("lr", "lr_probs", "lr_omega0", "gradient_clip", "max_minutes"):
            check_positive(f"train.{key}", getattr(self, key))
        check_not_negative("weight_decay", self.weight_decay)
        for key in ("batch_size", "epochs", "max_nonfinite", "keep_checkpoints"):
            check_count(f"train.{key}", getattr(self, key))
        if self.patience is not None and self.patience < 1:
            raise UserError(f"train.patience={self.patience} is out of range: give 1 or more, or null")
        check_every(self.checkpoint_every)

    @property
    def checkpoint_steps(self) -> int | None:
        """Batches between two checkpoints within an epoch."""
        return self.checkpoint_every if isinstance(self.checkpoint_every, int) else None

    @property
    def checkpoint_minutes(self) -> float | None:
        """Minutes between two checkpoints within an epoch."""
        return float(self.checkpoint_every.split()[0]) if isinstance(self.checkpoint_every, str) else None


@dataclass(frozen=True, kw_only=True)
class StageChoices:
    """What a stage may say for itself; null takes the value of `train`."""

    epochs: int | None = None
    lr: float | None = None


def bind_train(cfg: Mapping[str, Any]) -> TrainChoices:
    """Return the checked choices of `train`.

    Raises:
        UserError: an unknown method or key, a missing key, a wrong type, or a value out of range.
    """
    keywords = dict(cfg["train"])
    name = keywords.pop("type", None)
    method = choose(METHODS, name, "train.type")
    loop = [key for key in parameters(TrainChoices) if key != "own"]
    known = [*loop, *parameters(method)]
    for key in keywords:
        if key not in known:
            raise UserError(f"train.{key} is not a key of {name}: {', '.join(known)}{nearest(str(key), known)}")
    own = {key: keywords.pop(key) for key in parameters(method) if key in keywords}
    chosen = bind({name: method}, name, own, "train")()
    choices: TrainChoices = bind({name: TrainChoices}, name, keywords, "train", later=("own",))(own=chosen)
    return choices


def stage_choices(choices: TrainChoices, names: tuple[str, ...]) -> dict[str, StageChoices]:
    """Return what each stage takes: its own epochs and rate, or those of `train`; a stage of 0 epochs is left out.

    Raises:
        UserError: a stage that this method has not, an unknown key, a value out of range, or no stage is left.
    """
    for name in choices.stages:
        if name not in names:
            known = ", ".join(names)
            raise UserError(f"train.stages.{name} is not a stage of this method: {known}{nearest(name, names)}")
    found = {}
    for name in names:
        given = choices.stages.get(name) or {}
        if not isinstance(given, dict):
            raise UserError(f"train.stages.{name}={given!r} is not a group of keys: give train.stages.{name}.epochs=5")
        own = fill(StageChoices, given, f"train.stages.{name}")
        check_positive(f"train.stages.{name}.lr", own.lr)
        epochs = choices.epochs if own.epochs is None else own.epochs
        if epochs < 0:
            raise UserError(f"train.stages.{name}.epochs={epochs} is negative: give 0 (leave it out) or more, or null")
        if epochs:
            found[name] = StageChoices(epochs=epochs, lr=own.lr or choices.lr)
    if not found:
        raise UserError("every stage has 0 epochs: give one of them some, or set train.do=false")
    return found


def check_every(value: int | str | None) -> None:
    """Refuse what is neither null, a number of batches, nor minutes, as in "10 min"."""
    if value is None or (isinstance(value, int) and value >= 1):
        return
    number, _, unit = value.partition(" ") if isinstance(value, str) else ("", "", "")
    if unit == "min" and re.fullmatch(r"\d+(\.\d+)?", number) and 0 < float(number) < math.inf:
        return
    raise UserError(
        f"train.checkpoint_every={value!r} says no time: give batches (500), minutes ('10 min'), or null (every epoch)"
    )


def check_positive(key: str, value: float | None) -> None:
    """Refuse what is not above 0 and finite; None is fine."""
    if value is not None and not 0 < value < math.inf:
        raise UserError(f"{key}={value} is out of range: give a number above 0, for example 0.001")


def check_not_negative(key: str, value: float) -> None:
    """Refuse what is below 0 or not finite."""
    if not 0 <= value < math.inf:
        raise UserError(f"train.{key}={value} is out of range: give 0 (off) or more")


def check_count(key: str, value: int) -> None:
    """Refuse what is below 1."""
    if value < 1:
        raise UserError(f"{key}={value} is out of range: give 1 or more")
