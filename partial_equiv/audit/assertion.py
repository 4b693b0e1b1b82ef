"""Equivariance in a test suite: one number, and an assertion that names the layer which breaks it.

Axes: B batch, C channels, Y X image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from partial_equiv.audit.dynamic import Representations, audit, measure_output, prepare
from partial_equiv.audit.report import AuditReport
from partial_equiv.errors import UserError

NOISE_IMAGES = 4
ROWS = 12


def equivariance_error(
    model: nn.Module,
    x: Tensor,
    group: str = "C4",
    *,
    angles: Sequence[float] | None = None,
    reps: Representations = "auto",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> float:
    """Return the largest equivariance error of the outputs over the moves of a group; no layer is looked at.

    max_g mean |f(g x) - rho(g) f(x)| / mean |f(x') - f(x)|: 0 is exact, 1 as far off as another image. See `audit`.

    Args:
        model: Any module from images to tensors.
        x: Two images or more.
        group: As in `audit`.
        angles: As in `audit`.
        reps: As in `audit`, for "output".
        dtype: Of the evaluation.
        seed: Of what is random in a forward pass.
    Shape:
        x [B, C, Y, X].
    Raises:
        UserError: as in `audit`; or an output of which nothing is known under the group.
    """
    setting = prepare(model, x, group, angles, reps, dtype, seed, None)
    report = measure_output(setting)
    return _number(report)


def assert_equivariant(
    model: nn.Module,
    group: str = "C4",
    x: Tensor | None = None,
    tolerance: float = 1e-6,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    angles: Sequence[float] | None = None,
    reps: Representations = "auto",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> None:
    """Check that the outputs of a network commute with a group.

    Args:
        model: Any module from images to tensors.
        group: As in `audit`.
        x: Two images or more [B, C, Y, X]; without them, four of white noise of `size` and `channels`.
        tolerance: Largest error that passes, relative to the variation between images.
        size: Side in pixels or (Y, X) of the noise.
        channels: Of the noise.
        angles: As in `audit`.
        reps: As in `audit`.
        dtype: Of the evaluation; in float32 a tolerance of 1e-4 is what rounding allows.
        seed: Of the noise, and of what is random in a forward pass.
    Raises:
        AssertionError: an output's error is above the tolerance; the message names the first layer that breaks.
        UserError: neither `x` nor `size`; or as in `audit`.
    """
    __tracebackhide__ = True  # pytest then points at the test
    images = _noise(size, channels, seed) if x is None else x
    setting = prepare(model, images, group, angles, reps, dtype, seed, None)
    error = _number(measure_output(setting))
    if error <= tolerance:
        return
    strict = min(tolerance, setting.judge.tolerance)
    report = audit(model, images, group, angles=angles, reps=reps, dtype=dtype, seed=seed, tolerance=strict)
    raise AssertionError(_message(report, error, tolerance))


def _number(report: AuditReport) -> float:
    """Return the error of the outputs.

    Raises:
        UserError: one has no number.
    """
    for row in report.rows:
        if row.cumulative is None:
            raise UserError(f"{row.name} has no equivariance error ({row.reason}): pass reps={{'{row.name}': ...}}")
    assert report.error is not None
    return report.error


def _noise(size: int | tuple[int, int] | None, channels: int, seed: int) -> Tensor:
    if size is None:
        raise UserError("neither x nor size is given: pass x=images [B, C, Y, X], or size= in pixels for white noise")
    sides = (size, size) if isinstance(size, int) else size
    return torch.randn(
        NOISE_IMAGES, channels, *sides, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def _message(report: AuditReport, error: float, tolerance: float) -> str:
    first = report.first_culprit
    name = "no single layer; see what they add up to" if first is None else f"{first.name} ({first.module})"
    return (
        f"{report.network} is not equivariant to {report.group}: error {error:.2g}, at most {tolerance:g} allowed; "
        f"the first to break it: {name}\n{report.table(most=ROWS)}"
    )
