"""Accuracy on moved test images: upright, unseen, mean, worst, and whether the answer stays the same.

Axes: M elements of the group (the identity first), B batch, C channels, Y X image, K classes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from partial_equiv.audit.moves import Move, make_moves
from partial_equiv.audit.orbit_report import OrbitReport
from partial_equiv.errors import UserError

Fill = float | Sequence[float] | str
Border = Literal["none", "circle"]

REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, AssertionError)
"""What networks raise at images that they do not take."""


def evaluate_orbit(
    model: Callable[[Tensor], Any],
    loader: Iterable[Any],
    group: str = "C4",
    *,
    angles: Sequence[float] | None = None,
    fill: Fill = "background",
    border: Border = "none",
    no_images: int | None = None,
) -> OrbitReport:
    """Return the accuracy of a classifier on its test images moved by every element of a group.

    acc(g) = share of images x with argmax f(g x) = label(x); unseen is the mean of acc(g) over g != e, mean over all g.
    Right angles permute pixels; other turns are bilinear, see `orbit_images`. Memory does not grow with the set.
    The model is used in evaluation mode without gradients and gets its modes back, also after an exception.

    Args:
        model: Images -> logits [B, K], a module on any device or a function; one tensor in a tuple or dict is taken.
        loader: Batches whose first two entries are images and labels, such as `Batch` or those of torch's DataLoader.
        group: As `make_moves`; "C36" are turns by 0, 10, .., 350 degrees. The identity is always taken, first.
        angles: Radians, for group="SO2" or "O2".
        fill: As `orbit_images`.
        border: As `orbit_images`.
        no_images: Stop after so many images; None takes all.
    Shape:
        images [B, C, Y, X], normalised or not; labels integers [B].

    Raises:
        UserError: no batch, images or labels of another shape, a model that takes or returns something else, NaN.
    Source: Edixhoven et al. 2023. Differs: unseen leaves the upright images out; images are turned over their
        background, not after normalisation over zeros; seen, unseen and mean each have their interval.
    """
    moves = _orbit(group, angles)
    if no_images is not None and no_images < 1:
        raise UserError(f"no_images={no_images} is out of range: give 1 or more, or None for the whole set")
    no_right = torch.zeros(len(moves), dtype=torch.int64)
    histogram, unseen_histogram = (torch.zeros(len(moves) + rest, dtype=torch.int64) for rest in (1, 0))
    no_consistent = 0
    with _evaluating(model) as anchor:
        for images, labels in _pairs(loader, no_images, anchor):
            orbit = orbit_images(images, moves, fill=fill, border=border)
            answers = torch.stack([_answers(model, x, images, labels, anchor) for x in orbit])
            right = answers == labels
            no_right += right.sum(dim=1)
            histogram += torch.bincount(right.sum(dim=0), minlength=len(histogram))
            unseen_histogram += torch.bincount(right[1:].sum(dim=0), minlength=len(unseen_histogram))
            no_consistent += int((answers == answers[0]).all(dim=0).sum())
    if not histogram.any():
        raise UserError("the loader yields no images: give one with at least one batch (a generator yields only once)")
    return OrbitReport(
        group=group,
        moves=moves,
        no_right=tuple(no_right.tolist()),
        histogram=tuple(histogram.tolist()),
        unseen_histogram=tuple(unseen_histogram.tolist()),
        no_consistent=no_consistent,
        fill=_fill_name(fill),
        border=border,
    )


def orbit_images(
    images: Tensor, moves: Iterable[Move], *, fill: Fill = "background", border: Border = "none"
) -> Iterator[Tensor]:
    """Yield g x for each move g, in new memory.

    Bilinear turns interpolate x - fill over zeros and add the fill back. Interpolation commutes with affine maps of the
    pixel values, so this is what turning raw pixels over their background and normalising them afterwards gives.

    Args:
        images: Normalised or raw; integers are rounded back.
        moves: As `make_moves` returns them.
        fill: What lies outside the frame: "background" for each image's and channel's median over the pixels of its
            border (the lower one of two), or a number, or one number per channel, in the units of `images`.
        border: "circle" sets all outside the inscribed circle to the fill, after every move, the identity too, so that
            no picture shows how it was turned. The circle goes through the centres of the outermost pixels:
            inside it a turned square image never reads beyond its frame.
    Shape:
        images [B, C, Y, X] -> the same for each move, Y and X exchanged where the move does so.

    Raises:
        UserError: another shape, no such fill or border.
    """
    if border not in ("none", "circle"):
        raise UserError(f"border={border!r} is not one of: none, circle")
    background = _background(images, fill)
    # Half precision would round twice, and unsigned integers wrap around at x - fill.
    precise = images if images.dtype in (torch.float32, torch.float64) else images.float()
    for move in moves:
        moved = move.images(images if move.exact else precise, background)
        if border == "circle":
            moved = torch.where(_circle(moved), moved, background.to(moved.dtype))
        if not images.is_floating_point():
            limits = torch.iinfo(images.dtype)
            moved = moved.round().clamp(limits.min, limits.max)
        # A quarter turn is a view with exchanged strides, which .view() in a model refuses.
        yield moved.to(images.dtype).contiguous()


def _background(images: Tensor, fill: Fill) -> Tensor:
    """Return the fill as a floating tensor [B or 1, C or 1, 1, 1]."""
    if images.dim() != 4 or 0 in images.shape or images.dtype == torch.bool or images.is_complex():
        raise UserError(f"images are {list(images.shape)} of {images.dtype}: give batches [B, C, Y, X] of real numbers")
    precision = images.dtype if images.dtype == torch.float64 else torch.float32
    if fill == "background":
        edge = torch.ones(images.shape[-2:], dtype=torch.bool, device=images.device)
        edge[1:-1, 1:-1] = False
        return images[..., edge].to(precision).median(dim=-1).values[..., None, None]
    wanted = 'give "background", one number, or one per channel'
    if isinstance(fill, str):
        raise UserError(f"fill={fill!r}: {wanted}")
    values = torch.as_tensor(fill, dtype=precision, device=images.device).reshape(-1)
    if len(values) not in (1, images.shape[1]):
        raise UserError(f"fill has {len(values)} numbers for images of {images.shape[1]} channels: {wanted}")
    return values.reshape(1, -1, 1, 1)


def _fill_name(fill: Fill) -> str:
    return fill if isinstance(fill, str) else " ".join(f"{v:g}" for v in torch.as_tensor(fill).reshape(-1).tolist())


def _circle(images: Tensor) -> Tensor:
    """Return where the pixels lie on or inside the inscribed circle, [Y, X]."""
    height, width = images.shape[-2:]
    # Doubled coordinates about the centre are integers, so that no pixel is in at one angle and out at another.
    rows = (2 * torch.arange(height, device=images.device) - (height - 1))[:, None]
    columns = 2 * torch.arange(width, device=images.device) - (width - 1)
    return rows**2 + columns**2 <= (min(height, width) - 1) ** 2


def _orbit(group: str, angles: Sequence[float] | None) -> tuple[Move, ...]:
    """Return the identity and the elements of the group."""
    moves = (Move(0.0), *make_moves(group, angles))
    names = [move.name for move in moves]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"angles hold {', '.join(twice)} more than once: give each turn once, the identity is added")
    if len(moves) == 1:
        raise UserError("angles hold nothing but the identity: give at least one turn")
    return moves


def _pairs(loader: Iterable[Any], no_images: int | None, anchor: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images beside the model's tensors and labels [B] on the CPU, of no more than `no_images` images."""
    left = no_images
    for batch in loader:
        if not isinstance(batch, tuple | list) or len(batch) < 2 or not all(torch.is_tensor(x) for x in batch[:2]):
            raise UserError(f"the loader yields {type(batch).__name__}: give batches (images, labels, ...) of tensors")
        images, labels = batch[0][:left], batch[1][:left].cpu()
        if labels.dim() != 1 or len(labels) != len(images) or labels.is_floating_point() or labels.is_complex():
            given = f"{list(batch[1].shape)} of {batch[1].dtype} for {len(batch[0])} images"
            raise UserError(f"labels are {given}: give one integer per image, [B]")
        yield images if anchor is None else images.to(anchor.device), labels.long()
        left = None if left is None else left - len(images)
        if left == 0:  # before the next batch is fetched for nothing
            return


def _answers(
    model: Callable[[Tensor], Any], moved: Tensor, images: Tensor, labels: Tensor, anchor: Tensor | None
) -> Tensor:
    """Return the class with the highest logit for each image, [B] on the CPU."""
    if anchor is not None and anchor.is_floating_point() and moved.is_floating_point():
        moved = moved.to(anchor.dtype)
    given = list(moved.shape)
    try:
        output = model(moved)
    except (UserError, torch.OutOfMemoryError):
        raise
    except REFUSALS as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        if moved.shape != images.shape:
            fix = f"a quarter turn of {list(images.shape[-2:])}: give square images, or group='C2' or 'D2'"
        else:
            fix = "give images of the size and channels it takes, and wrap a model that needs more than images"
        raise UserError(f"the model does not take images {given} ({why}), {fix}") from error
    logits = _logits(output)
    if logits.dim() != 2 or len(logits) != len(labels) or not logits.shape[1]:
        raise UserError(f"the model returns {list(logits.shape)} for images {given}: it must return logits [B, K]")
    if torch.isnan(logits).any():
        raise UserError("the model returns NaN: check its weights and the scale of its inputs")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        seen = f"{int(labels.min())} to {int(labels.max())}"
        raise UserError(f"labels run from {seen} and the model has {logits.shape[1]} classes: count them from 0")
    return logits.argmax(dim=1).cpu()


def _logits(output: Any) -> Tensor:
    """Return the one tensor that a model's output is or holds."""
    if torch.is_tensor(output):
        return output
    entries = list(output.values()) if isinstance(output, Mapping) else output
    tensors = [entry for entry in entries if torch.is_tensor(entry)] if isinstance(entries, tuple | list) else []
    if len(tensors) != 1:
        kind = f"{type(output).__name__} with {len(tensors)} tensors"
        raise UserError(f"the model returns a {kind}: wrap it so that it returns the logits alone")
    only: Tensor = tensors[0]
    return only


@contextmanager
def _evaluating(model: Callable[[Tensor], Any]) -> Iterator[Tensor | None]:
    """Put every module in evaluation mode without gradients, yield a tensor of the model, put each back as it was."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    owned = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    for module in modules:
        module.training = False
    try:
        with torch.no_grad():
            yield next((tensor for tensor in owned if tensor.is_floating_point()), next(iter(owned), None))
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
