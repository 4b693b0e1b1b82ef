"""Convolutions and pools whose sampling grid is shifted by its remainder.

Axes: Y X image; i input size, k' pixels under a kernel, s stride, p padding, o output size, r remainder.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from partial_equiv.audit.recording import Call

AXES = ("H", "W")


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One call whose sampling grid is not symmetric on an axis that the move reverses.

    Args:
        layer: Path of the module that made the call; "" outside all modules.
        operation: "conv2d", "max_pool2d", "avg_pool2d" or "lp_pool2d".
        axis: "H" or "W" of the image.
        size: i.
        kernel: k', with dilation.
        stride: s.
        remainder: r = i + 2 p - k' - (o - 1) s, in pixels of the layer's input.
    """

    layer: str
    operation: str
    axis: str
    size: int
    kernel: int
    stride: int
    remainder: int


class Here:
    """A watcher that knows which module is running."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def before(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Enter a module."""
        self.paths.append(call.path)

    def after(self, call: Call, output: Any) -> None:
        """Leave it."""
        self.paths.pop()


class PhaseMode(TorchFunctionMode):
    """Within this context convolutions and pools sample r pixels further on the given axes.

    Args:
        axes: "H" and "W", as reversed by a move.
        here: Knows which module is running.
    """

    def __init__(self, axes: Iterable[str], here: Here) -> None:
        super().__init__()
        self.axes, self.here = frozenset(axes), here
        self.shifts: list[Shift] = []
        self._own: dict[Any, Callable[..., Any]] = {
            torch.conv2d: self._conv,
            functional.max_pool2d: self._max_pool,
            torch.max_pool2d: self._max_pool,
            functional.avg_pool2d: self._avg_pool,
            functional.lp_pool2d: self._lp_pool,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the shifted operation, or the operation itself where there is nothing to shift."""
        own = self._own.get(func)
        result = None if own is None else own(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if result is None else result

    def _frame(
        self, name: str, x: Tensor, windows: Sequence[tuple[int, int]], pads: Sequence[int], outs: Sequence[int]
    ) -> list[int] | None:
        """Return the padding (left, right, top, bottom) of the shifted grid; None if no axis is shifted.

        Args:
            name: Of the operation.
            x: Its input.
            windows: (k', s) of rows and columns.
            pads: p ahead of the rows and columns.
            outs: o of both.
        """
        frame, found = [], []
        for axis, size, (kernel, stride), pad, out in zip(AXES, x.shape[-2:], windows, pads, outs, strict=True):
            reach = (out - 1) * stride + kernel
            r = size + 2 * pad - reach if axis in self.axes else 0
            if r:
                layer = self.here.paths[-1] if self.here.paths else ""
                facts = {"size": size, "kernel": kernel, "stride": stride, "remainder": r}
                found.append(Shift(layer=layer, operation=name, axis=axis, **facts))
            frame.append((pad - r, reach - size - (pad - r)))
        self.shifts += found
        return [*frame[1], *frame[0]] if found else None

    def _conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:
        steps, gaps = _pair(stride), _pair(dilation)
        kernels = [gap * (side - 1) + 1 for gap, side in zip(gaps, weight.shape[-2:], strict=True)]
        if isinstance(padding, str):  # "same" puts an odd pixel at the end
            total = [kernel - 1 if padding == "same" else 0 for kernel in kernels]
            pads, ends = [t // 2 for t in total], [t - t // 2 for t in total]
        else:
            pads = ends = _pair(padding)
        sizes = zip(x.shape[-2:], pads, ends, kernels, steps, strict=True)
        outs = [(size + start + end - kernel) // step + 1 for size, start, end, kernel, step in sizes]
        frame = self._frame("conv2d", x, list(zip(kernels, steps, strict=True)), pads, outs)
        if frame is None:
            return None
        return functional.conv2d(functional.pad(x, frame), weight, bias, stride, 0, dilation, groups)

    def _max_pool(
        self,
        x: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor | None:
        pool = _Pool(kernel_size, stride, padding, dilation, ceil_mode)
        frame = None if return_indices else self._frame("max_pool2d", x, pool.windows, pool.pads, pool.outs(x))
        if frame is None:
            return None
        padded = functional.pad(x, frame, value=-torch.inf)
        return functional.max_pool2d(padded, kernel_size, pool.steps, 0, dilation)

    def _avg_pool(
        self,
        x: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        name: str = "avg_pool2d",
    ) -> Tensor | None:
        pool = _Pool(kernel_size, stride, padding, 1, ceil_mode)
        frame = self._frame(name, x, pool.windows, pool.pads, pool.outs(x))
        if frame is None:
            return None

        def sums(values: Tensor, pads: Sequence[int]) -> Tensor:
            padded = functional.pad(values, list(pads))
            return functional.avg_pool2d(padded, kernel_size, pool.steps, divisor_override=1)

        if divisor_override is not None:
            return sums(x, frame) / divisor_override
        # What overhangs the padded map, with ceil_mode, never counts; the padding counts on request.
        ones = x.new_ones(1, 1, *x.shape[-2:])
        rim = [pool.pads[1]] * 2 + [pool.pads[0]] * 2 if count_include_pad else [0] * 4
        counted = functional.pad(ones, rim, value=1.0)
        return sums(x, frame) / sums(counted, [f - r for f, r in zip(frame, rim, strict=True)])

    def _lp_pool(
        self, x: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Tensor | None:
        mean = self._avg_pool(x.pow(norm_type), kernel_size, stride, 0, ceil_mode, name="lp_pool2d")
        if mean is None:
            return None
        rows, columns = _pair(kernel_size)
        return (mean.sign() * mean.abs().relu()).mul(rows * columns).pow(1.0 / norm_type)


class _Pool:
    """The windows of a pool, with torch's rule for how many there are."""

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> None:
        sides, gaps = _pair(kernel_size), _pair(dilation)
        self.steps = sides if stride is None or stride == [] else _pair(stride)
        self.pads, self.ceil_mode = _pair(padding), ceil_mode
        kernels = [gap * (side - 1) + 1 for gap, side in zip(gaps, sides, strict=True)]
        self.windows = list(zip(kernels, self.steps, strict=True))

    def outs(self, x: Tensor) -> list[int]:
        """Return how many windows there are along rows and columns."""
        found = []
        for size, (kernel, stride), pad in zip(x.shape[-2:], self.windows, self.pads, strict=True):
            room = size + 2 * pad - kernel
            out = (-(-room // stride) if self.ceil_mode else room // stride) + 1
            overhangs = self.ceil_mode and (out - 1) * stride >= size + pad
            found.append(out - overhangs)
        return found


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if isinstance(value, int) else ([int(v) for v in value] * 2)[:2]
