"""The parts a network is built from, each a maker with every choice already taken."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from partial_equiv.convs import (
    Angle,
    Factorization,
    GroupConv,
    LiftingConv,
    MakeKernel,
    Padding,
    PointwiseConv,
    check_size,
)
from partial_equiv.errors import UserError
from partial_equiv.groups import Group, make_group
from partial_equiv.kernels import Kernel
from partial_equiv.sampling import IntervalSampler, Sampler, make_sampler

MOST_SAMPLES = 20_000  # a layer compares every element with every other; D9999, the largest group, has 19,998


@dataclass(frozen=True, kw_only=True)
class ConvChoices:
    """How convolutions behave.

    Args:
        padding: "same", "valid" or pixels; the last convolution of a CKResNet is always "valid".
        partial_equiv: Learn, in every group convolution, how much of the group to keep.
        bias: Learn a bias in lifting and group convolutions.
        initial_level: Share of the circle, in (0, 1], that learned intervals start from; specs of 0.1.0 have none.
        factorization: Of the kernels of group convolutions, "full", "g" or "gc" (see `GroupConv`); a lifting has no
            elements that "g" could split off.
    """

    padding: Literal["same", "valid"] | int
    partial_equiv: bool
    bias: bool
    initial_level: float = 1.0
    factorization: Factorization = "full"


@dataclass(frozen=True, kw_only=True)
class GroupChoices:
    """Which group, and how its elements are sampled.

    Args:
        name: T2, SE2, E2, C<n> or D<n>.
        no_samples: Elements per set.
        sampling_method: "deterministic" or "random".
        sample_per_layer: Every group convolution draws its own elements (random only).
        sample_per_batch_element: Every image has its own elements (random only).
        count: "all", or the published "ceil" (see `IntervalSampler`).
        gumbel_init_temp: Gate temperature at the start of training.
        gumbel_end_temp: Gate temperature at its end.
    """

    name: str
    no_samples: int
    sampling_method: Literal["deterministic", "random"]
    sample_per_layer: bool
    sample_per_batch_element: bool
    count: Literal["all", "ceil"]
    gumbel_init_temp: float
    gumbel_end_temp: float


@dataclass(frozen=True, kw_only=True)
class KernelChoices:
    """How kernels are laid out, whatever their type.

    Args:
        size: An odd number of pixels, "same" or "full".
        angle: "circle", or the published "linear" (see `GroupConv`).
        no_hidden: Width of the kernel networks; shortcuts use half of it.
    """

    size: int | str
    angle: Angle
    no_hidden: int


@dataclass(frozen=True)
class ConvKit:
    """Makers of fresh layers for one network.

    `sampler` makes the sampler of a group convolution, None where it keeps its input's elements; `resamples` says
    whether group convolutions change elements, so that a shortcut has to follow.
    """

    group: Group
    conv: ConvChoices
    choices: GroupChoices
    kernel: KernelChoices
    make_kernel: Callable[..., Kernel]
    norm: Callable[[int], nn.Module]

    @property
    def resamples(self) -> bool:
        """Whether a group convolution's output elements differ from its input's."""
        return self.choices.sample_per_layer or self.conv.partial_equiv

    @property
    def no_samples(self) -> int:
        """Elements per set."""
        return self.choices.no_samples

    def sampler(self, *, partial_equiv: bool) -> Sampler:
        """Return a fresh sampler."""
        return make_sampler(
            group=self.group,
            no_samples=self.choices.no_samples,
            sampling_method=self.choices.sampling_method,
            partial_equiv=partial_equiv,
            count=self.choices.count,
            gumbel_init_temp=self.choices.gumbel_init_temp,
            gumbel_end_temp=self.choices.gumbel_end_temp,
            initial_level=self.conv.initial_level,
        )

    def augmentation(self) -> Sampler:
        """Return a fresh sampler with a learned interval, for learned augmentation."""
        temperatures = (self.choices.gumbel_init_temp, self.choices.gumbel_end_temp)
        return IntervalSampler(
            group=self.group,
            no_samples=self.choices.no_samples,
            count=self.choices.count,
            initial_temperature=temperatures[0],
            final_temperature=temperatures[1],
        )

    def lifting(
        self,
        in_channels: int,
        out_channels: int,
        padding: Padding | None = None,
        size: int | str | None = None,
        stride: int = 1,
    ) -> LiftingConv:
        """Return a fresh lifting convolution, which always covers the whole group; None takes the kit's choice."""
        return LiftingConv(
            in_channels,
            out_channels,
            sampler=self.sampler(partial_equiv=False),
            factorization="gc" if self.conv.factorization == "gc" else "full",
            **self._shared(padding, size, stride),
        )

    def group_conv(
        self,
        in_channels: int,
        out_channels: int,
        padding: Padding | None = None,
        size: int | str | None = None,
        stride: int = 1,
    ) -> GroupConv:
        """Return a fresh group convolution; None takes the kit's choice."""
        return GroupConv(
            in_channels,
            out_channels,
            sampler=self.sampler(partial_equiv=self.conv.partial_equiv) if self.resamples else None,
            no_samples=self.choices.no_samples,
            factorization=self.conv.factorization,
            **self._shared(padding, size, stride),
        )

    def translation_conv(self, in_channels: int, out_channels: int, padding: Padding) -> GroupConv:
        """Return a fresh group convolution at the identity alone: a plain convolution of a mean over elements."""
        return GroupConv(
            in_channels,
            out_channels,
            size=self.kernel.size,
            group=self.group,
            make_kernel=self._kernel(self.kernel.no_hidden),
            sampler=None,
            no_samples=1,
            padding=padding,
            bias=self.conv.bias,
            angle=self.kernel.angle,
            factorization=self.conv.factorization,
        )

    def pointwise(self, in_channels: int, out_channels: int) -> PointwiseConv:
        """Return a fresh pointwise convolution, its kernel network half as wide."""
        return PointwiseConv(
            in_channels,
            out_channels,
            group=self.group,
            make_kernel=self._kernel(max(self.kernel.no_hidden // 2, 1)),
            no_samples=self.choices.no_samples,
            angle=self.kernel.angle,
        )

    def _shared(self, padding: Padding | None, size: int | str | None, stride: int) -> dict[str, Any]:
        """Return what lifting and group convolutions are told alike; None takes the kit's choice."""
        return {
            "size": self.kernel.size if size is None else size,
            "group": self.group,
            "make_kernel": self._kernel(self.kernel.no_hidden),
            "padding": self.conv.padding if padding is None else padding,
            "bias": self.conv.bias,
            "per_batch_element": self.choices.sample_per_batch_element,
            "angle": self.kernel.angle,
            "stride": stride,
        }

    def _kernel(self, no_hidden: int) -> MakeKernel:
        return partial(self.make_kernel, no_hidden=no_hidden)


def make_kit(
    conv: ConvChoices,
    choices: GroupChoices,
    kernel: KernelChoices,
    make_kernel: Callable[..., Kernel],
    norm: Callable[[int], nn.Module],
) -> ConvKit:
    """Return the kit for these choices.

    Raises:
        UserError: the choices do not fit together.
    """
    if min(kernel.no_hidden, choices.no_samples) < 1 or choices.no_samples > MOST_SAMPLES:
        given = f"kernel.no_hidden={kernel.no_hidden} and base_group.no_samples={choices.no_samples}"
        raise UserError(f"{given} must be 1 or more, and samples at most {MOST_SAMPLES:,}")
    if isinstance(conv.padding, int) and conv.padding < 0:
        raise UserError(f"conv.padding={conv.padding} is negative: give 'same', 'valid' or pixels from 0")
    check_size(kernel.size)
    random = choices.sampling_method == "random"
    if random and conv.partial_equiv and not choices.sample_per_layer:
        raise UserError(
            "conv.partial_equiv=True with base_group.sampling_method=random draws elements in every layer: "
            "set base_group.sample_per_layer=True"
        )
    for key in ("sample_per_layer", "sample_per_batch_element"):
        if not random and getattr(choices, key):
            raise UserError(
                f"base_group.{key}=True needs random elements and base_group.sampling_method=deterministic fixes them: "
                f"set base_group.{key}=False or base_group.sampling_method=random"
            )
    kit = ConvKit(make_group(choices.name), conv, choices, kernel, make_kernel, norm)
    kit.sampler(partial_equiv=conv.partial_equiv)
    return kit
