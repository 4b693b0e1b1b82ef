"""What a finished encoder says of every view of a set, computed once for all probes that ask.

Axes: N objects, V views of an object, M examples, D numbers of a representation, E of an embedding, C channels, Y X
pixels, L latent numbers of a view.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from tqdm import tqdm

from partial_equiv.datasets import ImageSet, ViewSet
from partial_equiv.errors import UserError
from partial_equiv.menu import choose
from partial_equiv.nets import SplitEncoder

IMAGES, ROWS = 256, 8_192
"""Images that go through an encoder at once, and representations that go through a projector."""
KEPT = 4
Norms = Literal["eval", "batch"]


@runtime_checkable
class Measured(Protocol):
    """What these probes need of an objective; `SelfSupervised` has it all."""

    model: SplitEncoder
    split: bool
    has_predictor: bool

    def embed(self, h: Tensor) -> Tensor:
        """Return the embedding that is predicted: [M, D] -> [M, E]."""

    def embeddings(self, h: Tensor) -> dict[str, Tensor]:
        """Return every embedding by name: [M, D] -> [M, E]."""

    def predict(self, z: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return predicted embeddings of views with latents `target`: [M, E], [M, L], [M, L] -> [M, E]."""


class Remembered(NamedTuple):
    """What was computed with one state of an encoder: (of what, result)."""

    state: str
    results: list[tuple[tuple[Any, ...], tuple[Tensor, ...]]]


_remembered: WeakKeyDictionary[nn.Module, Remembered] = WeakKeyDictionary()


def measured(objective: nn.Module, probe: str) -> Measured:
    """Return the objective as what these probes measure.

    Raises:
        UserError: it is of another kind.
    """
    if not isinstance(objective, Measured):
        raise UserError(
            f"the probe {probe} measures encoders that learned from views, and {type(objective).__name__} has none: "
            f"set train=sie, for example, or leave {probe} out of the probes"
        )
    return objective


def check_views(views: object, probe: str, least: int = 1) -> None:
    """Refuse what is no set of views; None, which stands for a set that is not there yet, passes.

    Args:
        views: What is to be measured.
        probe: Its name, for the message.
        least: Views that each object must have.
    Raises:
        UserError: a set of single images.
    """
    single = isinstance(views, ImageSet)
    if single or (views is not None and getattr(views, "no_views", 0) < least):
        raise UserError(
            f"test.probes=[{probe}] needs {'several ' if least > 1 else ''}views of each object, and this data set has "
            f"single images: set dataset=shapes3d, for example, or leave {probe} out of the probes"
        )


def check_names(wanted: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse an empty list and names that are not known.

    Args:
        wanted: What was given.
        known: What may be.
        where: Path of the key, for the message.
    Raises:
        UserError: the message lists the choices.
    """
    choices = dict.fromkeys(known)
    if not list(wanted):
        raise UserError(f"{where} is empty: give some of {', '.join(choices)}, or leave the probe out of the probes")
    for name in wanted:
        choose(choices, name, where)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode without gradients, and every part of it back into the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():  # not inference mode: what layers keep here may meet gradients later
            yield
    finally:
        for part, training in modes:
            part.training = training


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def state_of(module: nn.Module) -> str:
    """Return a digest of all numbers of a module and of the plain attributes of its parts."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, part in module.named_modules():
        plain = {key: value for key, value in vars(part).items() if isinstance(value, bool | int | float | str)}
        plain.pop("training")  # all is measured in evaluation mode
        digest.update(f"{name} {sorted(plain.items())}".encode())
    return digest.hexdigest()


def remember(
    encoder: nn.Module, what: tuple[Any, ...], compute: Callable[[], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Return what was computed before with the same state of the encoder, else compute it; the last four are kept."""
    state = state_of(encoder)
    known = _remembered.get(encoder)
    if known is None or known.state != state:
        known = _remembered[encoder] = Remembered(state, [])
    for other, found in known.results:
        if other == what:
            return found
    found = compute()
    known.results.append((what, found))
    del known.results[:-KEPT]
    return found


def view_features(encoder: nn.Module, views: ViewSet) -> Tensor:
    """Return the representations of all views by the frozen encoder in evaluation mode, on the CPU.

    Several probes share one pass: the result is kept as long as the encoder and its state. The encoder is left exactly
    as it was.

    Shape:
        -> float32 [N, V, D].
    """

    def compute() -> tuple[Tensor, ...]:
        with evaluating(encoder):
            return (represent(encoder, views, torch.arange(views.no_objects * views.no_views).split(IMAGES)),)

    return remember(encoder, (views, "eval"), compute)[0]


def frozen_features(
    encoder: nn.Module, train: ViewSet, test: ViewSet, *, bn: Norms, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the representations of training and test views, on the CPU.

    "eval" is `view_features` of both. "batch" mimics the published evaluations, whose backbone was in training mode:
    the training views pass in random batches of 256 that are normalised by themselves while running statistics drift
    from view to view, and the test views are normalised by these. It cannot mimic that batches were drawn anew in each
    epoch, so that the representation of a view changed slightly from epoch to epoch: here each view passes once.

    Args:
        encoder: Left exactly as it was.
        train: Views that heads learn from.
        test: Views that heads are scored on.
        bn: What normalises.
        seed: Of the order of "batch".
    Shape:
        -> float32 [N, V, D] each.
    """
    if bn == "eval":
        return view_features(encoder, train), view_features(encoder, test)
    first, second = remember(encoder, (train, test, seed), lambda: drifted_features(encoder, train, test, seed))
    return first, second


def drifted_features(encoder: nn.Module, train: ViewSet, test: ViewSet, seed: int) -> tuple[Tensor, Tensor]:
    """Return representations as "batch" of `frozen_features` does."""
    drifting, device = copy.deepcopy(encoder), device_of(encoder)
    own = [device] if device.type == "cuda" else []
    draws = torch.Generator().manual_seed(seed)
    order = torch.randperm(train.no_objects * train.no_views, generator=draws)
    batches = order.tensor_split(math.ceil(len(order) / IMAGES))  # of about one size: none is left with a single view
    with torch.no_grad(), torch.random.fork_rng(devices=own):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[d.index] for d in own)):
            generator.manual_seed(seed)  # of dropout, and of nothing else: torch.manual_seed reaches every device
        drifting.train()
        learned = represent(drifting, train, batches)
    drifting.eval()
    with torch.no_grad():
        tested = represent(drifting, test, torch.arange(test.no_objects * test.no_views).split(IMAGES))
    return learned, tested


def represent(encoder: nn.Module, views: ViewSet, batches: tuple[Tensor, ...]) -> Tensor:
    """Return what the encoder says of all views, asked batch by batch of positions: [N, V, D] on the CPU."""
    device, shown = device_of(encoder), tqdm(batches, desc="representations", leave=False, disable=None)
    parts = ((positions, encoder(views.images_at(positions).to(device))) for positions in shown)
    found = filled(views.no_objects * views.no_views, parts, "representations")
    return found.reshape(views.no_objects, views.no_views, -1)


def filled(no_rows: int, parts: Iterable[tuple[Tensor, Tensor]], what: str, rate: str = "train.lr") -> Tensor:
    """Return rows that come part by part: float32 [no_rows, ...] on the CPU, never there twice.

    Args:
        no_rows: Of all parts.
        parts: Positions [m], and the rows that belong there.
        what: What the rows are, for the message.
        rate: The key that made them, for the message.
    Raises:
        UserError: a number is not finite: ranks and fits of such would be none.
    """
    found: Tensor | None = None
    for positions, rows in parts:
        rows = rows.float().cpu()
        if not rows.isfinite().all():
            raise UserError(
                f"the {what} are not finite, so nothing can be measured of them: lower {rate} and run again"
            )
        if found is None:
            found = rows.new_empty(no_rows, *rows.shape[1:])
        found[positions] = rows
    assert found is not None, "at least one part, if of no rows"
    return found


def parts_of(objective: Measured, wanted: list[str]) -> list[str]:
    """Return the parts to look at: the wanted ones of a method with parts, else the whole alone."""
    return list(dict.fromkeys(wanted)) if objective.split else ["all"]


def mapped(
    function: Callable[[Tensor], Tensor], rows: Tensor, device: torch.device, what: str, rate: str = "train.lr"
) -> Tensor:
    """Return a function of rows, computed chunk by chunk on a device: [M, D] -> [M, E] on the CPU."""
    chunks = torch.arange(len(rows)).split(ROWS)
    parts = zip(chunks, (function(part.to(device)) for part in rows.split(ROWS)), strict=True)
    return filled(len(rows), parts, what, rate)


def embedded(objective: Measured, views: ViewSet) -> Tensor:
    """Return the embeddings that are predicted, of all views: [N, V, E] on the CPU."""
    features = view_features(objective.model, views)
    found = mapped(objective.embed, features.flatten(0, 1), device_of(objective.model), "embeddings")
    return found.reshape(*features.shape[:2], -1)
