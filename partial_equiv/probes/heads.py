"""Small networks that learn a question from frozen representations: linear, and deep as published.

Axes: N objects, V views of an object, M examples, K views of an example, D numbers of a part, O of an answer.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from partial_equiv.datasets import ViewSet
from partial_equiv.errors import UserError
from partial_equiv.probes.features import Measured, Norms, check_names, device_of, frozen_features, mapped, parts_of

LEAST_STEPS = 1_000
HEADS = ("linear", "deep")
PARTS = ("all", "inv", "equi")


@dataclass(frozen=True, kw_only=True)
class HeadChoices:
    """How the heads of a probe are trained; the probe's keys in `cfg/config.yaml`.

    Args:
        probe: Name, for messages.
        parts: Of the representation, each with heads of its own.
        heads: "linear", and "deep" with two hidden layers.
        epochs: Passes; the weights after the last are kept.
        per_object: Examples of an object in an epoch; None as many as give about 1,000 steps, and 1, the published
            number, where that alone gives more.
        batch_size: Examples of a step.
        lr: Of Adam, constant.
        hidden: Width of the hidden layers of "deep"; 1024 as published.
        bn: What normalises in the encoder, see `frozen_features`.
        seed: Of weights and examples.
    Raises:
        UserError: an unknown part or head, or a number out of range.
    """

    probe: str
    parts: list[str]
    heads: list[str]
    epochs: int
    per_object: int | None
    batch_size: int
    lr: float
    hidden: int
    bn: Norms
    seed: int

    def __post_init__(self) -> None:
        """Check the choices."""
        where = f"test.{self.probe}"
        for key, menu in (("parts", PARTS), ("heads", HEADS)):
            check_names(getattr(self, key), menu, f"{where}.{key}")
        for key in ("epochs", "batch_size", "hidden"):
            if getattr(self, key) < 1:
                raise UserError(f"{where}.{key}={getattr(self, key)} is out of range: give 1 or more")
        if self.per_object is not None and self.per_object < 1:
            raise UserError(f"{where}: {self.per_object} examples of an object are too few: give 1 or more, or null")
        if not self.lr > 0:
            raise UserError(f"{where}.lr={self.lr} is out of range: give more than 0, for example 0.001")

    def examples_of_an_object(self, no_objects: int) -> int:
        """Return how many examples show an object in an epoch."""
        enough = math.ceil(LEAST_STEPS * self.batch_size / (self.epochs * no_objects))
        return enough if self.per_object is None else self.per_object


class Examples(NamedTuple):
    """What a head is shown, and what it shall say.

    Shape:
        positions int64 [M, K] of views, object by object; targets [M, ...].
    """

    positions: Tensor
    targets: Tensor


class Question(NamedTuple):
    """What heads are to learn, and on which views they are asked.

    Args:
        draw: Examples of an object and a generator -> training examples of an epoch, in random order.
        asked: Positions [M, K] of test views.
        no_out: Numbers of an answer.
        loss: Answers and targets -> mean loss.
    """

    draw: Callable[[int, torch.Generator], Examples]
    asked: Tensor
    no_out: int
    loss: Callable[[Tensor, Tensor], Tensor]


def answers(
    objective: Measured, train: ViewSet, test: ViewSet, choices: HeadChoices, question: Question
) -> Iterator[tuple[str, str, Tensor]]:
    """Yield part, head and answers [M, O] on the test views, for heads that are trained one after another.

    All start from one seed and see the same examples in the same order.
    """
    device = device_of(objective.model)
    learned, tested = frozen_features(objective.model, train, test, bn=choices.bn, seed=choices.seed)
    per_object = choices.examples_of_an_object(train.no_objects)
    for part, kind in itertools.product(parts_of(objective, choices.parts), dict.fromkeys(choices.heads)):
        seen, new = (objective.model.part(h.flatten(0, 1), part).to(device) for h in (learned, tested))  # type: ignore[arg-type]
        no_in = question.asked.shape[1] * seen.shape[1]
        head = make_head(kind, no_in, question.no_out, hidden=choices.hidden, seed=choices.seed).to(device)
        train_head(head, seen, question, choices, per_object, f"{choices.probe}, {part}, {kind} head")
        ask = functools.partial(answer, head, new)
        words = (f"answers of the {kind} head", f"test.{choices.probe}.lr")
        with torch.no_grad():
            yield part, kind, mapped(ask, question.asked.to(device), device, *words)


def answer(head: nn.Module, features: Tensor, rows: Tensor) -> Tensor:
    """Return what a head says of views side by side: features [N V, D], positions [M, K] -> [M, O]."""
    answered: Tensor = head(features[rows].flatten(1))
    return answered


def make_head(kind: str, no_in: int, no_out: int, *, hidden: int, seed: int) -> nn.Module:
    """Return an untrained head, no_in -> no_out, or -> hidden -> hidden -> no_out with ReLU for "deep".

    Global random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed reaches every device
        if kind == "linear":
            return nn.Linear(no_in, no_out)
        first, second, last = nn.Linear(no_in, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, no_out)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


@torch.enable_grad()
def train_head(
    head: nn.Module, features: Tensor, question: Question, choices: HeadChoices, per_object: int, title: str
) -> None:
    """Train a head with Adam at a constant rate, without weight decay; gradients are put on, whatever they were.

    Args:
        head: On the device of the features.
        features: [N V, D].
        question: What it learns.
        choices: Epochs, batch size and rate.
        per_object: Examples of an object in an epoch.
        title: Of the progress bar.
    """
    draws = torch.Generator().manual_seed(choices.seed)
    optimizer = torch.optim.Adam(head.parameters(), lr=choices.lr, fused=True)
    features = features.detach()
    for _ in tqdm(range(choices.epochs), desc=title, leave=False, disable=None):
        examples = question.draw(per_object, draws)
        positions, targets = (column.to(features.device) for column in examples)
        for rows, wanted in zip(positions.split(choices.batch_size), targets.split(choices.batch_size), strict=True):
            optimizer.zero_grad()
            question.loss(answer(head, features, rows), wanted).backward()
            optimizer.step()


def shuffled_objects(no_objects: int, per_object: int, draws: torch.Generator) -> Tensor:
    """Return every object `per_object` times, in random order: int64 [M]."""
    return torch.randperm(no_objects * per_object, generator=draws) % no_objects


def drawn_views(no_objects: int, no_views: int, per_object: int, draws: torch.Generator) -> Tensor:
    """Return positions of a random view of every object, `per_object` times, in random order: int64 [M, 1]."""
    objects = shuffled_objects(no_objects, per_object, draws)
    return (objects * no_views + torch.randint(no_views, objects.shape, generator=draws))[:, None]


def drawn_pairs(no_objects: int, no_views: int, per_object: int, draws: torch.Generator) -> Tensor:
    """Return positions of two distinct random views of every object, `per_object` times: int64 [M, 2].

    Uniform over the V (V - 1) ordered pairs of each object, in random order.
    """
    objects = shuffled_objects(no_objects, per_object, draws)
    first = torch.randint(no_views, objects.shape, generator=draws)
    second = (first + 1 + torch.randint(no_views - 1, objects.shape, generator=draws)) % no_views
    return torch.stack([first, second], dim=1) + (objects * no_views)[:, None]


def pair_question(train: ViewSet, asked: Tensor, target: Callable[[Tensor], Tensor], no_out: int) -> Question:
    """Return the question for what lies between two views, learned from random pairs by the mean squared error.

    Args:
        train: Views to learn from.
        asked: Positions [M, 2] of test views.
        target: Positions [M, 2] of training views -> what lies between them, [M, no_out].
        no_out: Numbers of an answer.
    """

    def draw(per_object: int, draws: torch.Generator) -> Examples:
        positions = drawn_pairs(train.no_objects, train.no_views, per_object, draws)
        return Examples(positions, target(positions).float())  # some accelerators have no double precision

    return Question(draw, asked, no_out, functional.mse_loss)


def asked_pairs(views: ViewSet, seed: int) -> Tensor:
    """Return the pairs that heads are scored on: every view with one other random view of its object, int64 [N V, 2].

    A pure function of the seed and of N and V.
    """
    no_views = views.no_views
    first = torch.arange(views.no_objects * no_views)
    steps = 1 + torch.randint(no_views - 1, first.shape, generator=torch.Generator().manual_seed(seed))
    return torch.stack([first, first - first % no_views + (first % no_views + steps) % no_views], dim=1)


def members(objects: Tensor, views: ViewSet) -> dict[str, Tensor]:
    """Return which examples show an object of each group of the set: name -> bool [M], the whole first.

    The whole has the name "", and groups of which there is no example are left out.

    Args:
        objects: Which object each example shows, int64 [M].
        views: Has the groups.
    """
    everything = {"": torch.ones(len(objects), dtype=torch.bool)}
    groups = {name: torch.isin(objects, positions) for name, positions in views.groups.items()}
    return everything | {name: inside for name, inside in groups.items() if bool(inside.any())}


def named(key: str, values: dict[str, float], group: str) -> dict[str, float]:
    """Return numbers under "key/name", of a group under "key/name/group"; what is not a number is left out."""
    ending = f"/{group}" if group else ""
    return {f"{key}/{name}{ending}": value for name, value in values.items() if not math.isnan(value)}


def table(title: Sequence[str], numbers: dict[str, float], prefix: str, columns: Sequence[str]) -> str:
    """Return numbers under `prefix` as a table: a row for what stands between it and the name of a column."""
    rows = dict.fromkeys(
        key.removeprefix(f"{prefix}/").rpartition("/")[0]
        for key in numbers
        if key.startswith(f"{prefix}/") and key.rpartition("/")[2] in columns
    )
    width = max([len(title[0]), *map(len, rows)])
    lines = ["  ".join([f"{title[0]:{width}}", *(f"{name:>10}" for name in title[1:])])]
    for row in rows:
        cells = [numbers.get(f"{prefix}/{row}/{column}") for column in columns]
        words = [f"{'-':>10}" if cell is None else f"{cell:>10.3f}" for cell in cells]
        lines.append("  ".join([f"{row:{width}}", *words]))
    return "\n".join(lines)
