"""What a search is told: its file, its command line, and the parameters that each trial draws as overrides."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from partial_equiv.errors import UserError
from partial_equiv.menu import check_values, fill, nearest

DEFAULTS = Path(__file__).resolve().parent / "sweeps" / "optuna.yaml"
OWN = ("space", "overrides")
"""What a file of its own says itself; every other key it may leave to the defaults."""


@dataclass(frozen=True, kw_only=True)
class SearchChoices:
    """The keys of a search; see `sweeps/optuna.yaml`."""

    study: str
    metric: str
    direction: Literal["maximize", "minimize"]
    value: Literal["best", "last"]
    trials: int
    timeout_minutes: float | None
    jobs: int
    sampler: Literal["tpe", "random"]
    pruner: Literal["median", "hyperband", "none"]
    startup_trials: int
    warmup_epochs: int
    seed: int
    space: dict  # type: ignore[type-arg]
    overrides: list[str]

    def __post_init__(self) -> None:
        """Check what types do not say.

        Raises:
            UserError: a value is out of range.
        """
        for key, least in (("trials", 1), ("jobs", 1), ("startup_trials", 0), ("warmup_epochs", 0), ("seed", 0)):
            if getattr(self, key) < least:
                raise UserError(f"{key}={getattr(self, key)} is out of range: give {least} or more")
        if self.timeout_minutes is not None and self.timeout_minutes <= 0:
            raise UserError(f"timeout_minutes={self.timeout_minutes:g} is out of range: give minutes above 0, or null")
        if not re.fullmatch(r"\w[\w.-]*", self.study):
            raise UserError(f"study={self.study!r} names a folder: give letters, digits, dots and dashes")
        if self.metric.startswith("test/"):
            raise UserError(f"metric={self.metric} would tune on the test data: give a metric of validation/")


@dataclass(frozen=True, kw_only=True)
class Options:
    """A parameter that takes one of several values, each as main.py reads it."""

    choices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Range:
    """A parameter between two numbers; whole numbers where both bounds are."""

    low: float
    high: float
    log: bool
    step: float | None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = Mapping[str, Options | Range]


def read_choices(arguments: Sequence[str]) -> SearchChoices:
    """Return what a command line asks for: `[<file>] [key=value ...] [-- <overrides of main.py>]`.

    Raises:
        UserError: the file cannot be read, or a key or a value is wrong.
    """
    place = list(arguments).index("--") if "--" in arguments else len(arguments)
    own, overrides = list(arguments[:place]), list(arguments[place + 1 :])
    files, pairs = [item for item in own if "=" not in item], [item for item in own if "=" in item]
    if len(files) > 1 or any(item.startswith("-") for item in files):
        raise UserError(f"{' '.join(files)} cannot be read: write search.py [<file>] [key=value ...] [-- <overrides>]")
    path = Path(files[0]) if files else DEFAULTS
    values = {key: value for key, value in read_file(DEFAULTS).items() if key not in OWN} | read_file(path)
    for item in pairs:
        key, _, text = item.partition("=")
        if key in OWN:
            raise UserError(f"{key} is not given here: write it into a file, or overrides of main.py after --")
        values[key] = parse(text, item)
    values["overrides"] = [*(values.get("overrides") or []), *overrides]
    choices = fill(SearchChoices, values, "search")
    check_overrides(choices)
    read_space(choices.space)
    return choices


def read_file(path: Path) -> dict[str, Any]:
    """Return the keys of a file.

    Raises:
        UserError: it is not there, or no set of keys.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: give a file like sweeps/optuna.yaml") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a set of keys: give a file like sweeps/optuna.yaml")
    return content


def parse(text: str, item: str) -> Any:
    """Return the value of a key=value pair.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{item!r} cannot be read: write key=value") from error


def check_overrides(choices: SearchChoices) -> None:
    """Check the overrides that all trials share.

    Raises:
        UserError: one is a flag, sets what is searched, or says where the runs lie.
    """
    for override in choices.overrides:
        key = override.partition("=")[0].lstrip("+~")
        if override.startswith("-") or "=" not in override:
            raise UserError(f"{override!r} is no override of main.py: give key=value after --")
        if key in choices.space:
            raise UserError(f"{override} sets what is searched: leave it out, or take {key} out of the space")
        if key in ("hydra.run.dir", "resume", "run", "do"):
            raise UserError(f"{override} says where a run lies, which the search does itself: leave it out")


def read_space(space: Mapping[str, Any]) -> Space:
    """Return the parameters of a search.

    Args:
        space: By key of main.py, either {choices: [...]} or {low, high} with log and step where wanted.

    Raises:
        UserError: none, or one that says something else.
    """
    if not space:
        raise UserError("space is empty: give parameters, for example space: {train.lr: {low: 1e-4, high: 1e-2}}")
    return {str(key): read_parameter(str(key), value) for key, value in space.items()}


def read_parameter(key: str, value: Any) -> Options | Range:
    """Return one parameter.

    Raises:
        UserError: it is neither a list of choices nor a range.
    """
    known = ("choices", "low", "high", "log", "step")
    if not isinstance(value, dict) or ("choices" in value) == ("low" in value or "high" in value):
        raise UserError(f"space.{key}={value!r} is no parameter: give {{choices: [...]}} or {{low: .., high: ..}}")
    for name in value:
        if name not in known:
            raise UserError(f"space.{key}.{name} is not one of: {', '.join(known)}{nearest(str(name), known)}")
    if "choices" in value:
        return read_options(key, value)
    bounds = {name: number(value.get(name), f"space.{key}.{name}") for name in ("low", "high")}
    step = None if value.get("step") is None else number(value["step"], f"space.{key}.step")
    found = Range(**bounds, log=value.get("log", False), step=step)
    check_values(Range, {"log": found.log}, f"space.{key}")
    if not found.low < found.high or (found.log and found.low <= 0) or (step is not None and (found.log or step <= 0)):
        raise UserError(
            f"space.{key}={value!r} is no range: low lies below high, above 0 where log is true, and log takes no step"
        )
    if found.whole and isinstance(step, float):
        raise UserError(f"space.{key}.step={step:g} is no whole number, low and high are: write them as 1.0")
    return found


def read_options(key: str, value: Mapping[str, Any]) -> Options:
    """Return a parameter of choices.

    Raises:
        UserError: less than two different ones, or more than choices.
    """
    choices = value["choices"]
    if not isinstance(choices, list) or len(value) > 1:
        raise UserError(f"space.{key}={dict(value)!r} is no list of choices: give {{choices: [a, b]}}")
    texts = tuple(override_text(choice) for choice in choices)
    if len(set(texts)) != len(texts) or len(texts) < 2:
        raise UserError(f"space.{key}.choices={choices!r} leaves no choice: give two or more different values")
    return Options(choices=texts)


def number(value: Any, where: str) -> float:
    """Return a number; YAML reads 1e-3 as a text.

    Raises:
        UserError: it is none.
    """
    try:
        found = float(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise UserError(f"{where}={value!r} is of the wrong type: give a number")
    return found


def override_text(value: Any) -> str:
    """Return a value as an override of main.py writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(override_text(entry) for entry in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_text(entry)}" for key, entry in value.items()) + "}"
    text = str(value)
    if re.fullmatch(r"[\w./+-]+", text, re.ASCII):
        return text
    # Hydra reads a backslash as itself, but in front of a quote.
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'


def draw(trial: Any, space: Space) -> list[str]:
    """Return the overrides of one trial, drawn by Optuna."""
    return [f"{key}={draw_text(trial, key, parameter)}" for key, parameter in space.items()]


def draw_text(trial: Any, key: str, parameter: Options | Range) -> str:
    """Return what one parameter is in a trial, as main.py reads it."""
    if isinstance(parameter, Options):
        return str(trial.suggest_categorical(key, parameter.choices))
    bounds = {"low": parameter.low, "high": parameter.high, "log": parameter.log}
    if parameter.whole:
        return str(trial.suggest_int(key, **bounds, step=parameter.step or 1))
    return repr(trial.suggest_float(key, **bounds, step=parameter.step))


def differences(old: Mapping[str, Any], new: SearchChoices) -> list[str]:
    """Return what a study that goes on may not change, and is asked to."""
    fixed, asked = ("metric", "direction", "value", "space", "overrides"), asdict(new)
    return [f"{key} was {old.get(key)} and is {asked[key]}" for key in fixed if old.get(key) != asked[key]]
