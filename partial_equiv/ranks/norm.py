"""Batch norm over the examples of all ranks.

Axes: N ranks, B examples of one rank, C channels, any further axes.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from partial_equiv.errors import UserError
from partial_equiv.ranks.collectives import no_ranks, no_shares, stack_ranks


class RankBatchNorm(_BatchNorm):
    """Batch normalisation whose statistics are those of all ranks' examples.

    y = (x - mean) / sqrt(variance + eps) * weight + bias, per channel; mean and biased variance over examples and
    pixels of all ranks in training, running ones in evaluation. On one rank, and where gradients are off (see
    `no_shares`), it is torch's batch norm. Ranks may hold different numbers of examples. Statistics are float32 at
    least, also under autocast.

    Args:
        num_features: C; all arguments, parameters, buffers and their names are those of `torch.nn.BatchNorm2d`.
    Shape:
        [B, C, ...] -> the same, 2 to 5 axes.
    Raises:
        ValueError: another number of axes, or on one rank a single value per channel in training.
    Source: as torch.nn.SyncBatchNorm. Differs: runs on any device and backend; moments are merged around the common
        mean (Chan et al. 1979).
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if not 2 <= input.ndim <= 5:
            raise ValueError(f"batch norm was given {input.ndim} axes: give [B, C] and up to three more")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise: [B, C, ...] -> the same."""
        from_batch = self.training or self.running_mean is None
        if not from_batch or no_shares() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input if input.dtype == torch.float64 else input.float()
            mean, variance, count = rank_moments(x)
            if self.training and self.track_running_stats:
                self._follow(mean, variance, count)
            scale = torch.rsqrt(variance + self.eps)
            per_channel = (-1, *(1 for _ in x.shape[2:]))
            if self.weight is not None:
                scale = scale * self.weight.to(scale.dtype)
            y = (x - mean.view(per_channel)) * scale.view(per_channel)
            if self.bias is not None:
                y = y + self.bias.to(y.dtype).view(per_channel)
        return y.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics towards those of the batch, the variance unbiased."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # No momentum means torch's plain average over all batches so far.
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var.dtype), momentum)


def rank_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean [C] and biased variance [C] over all ranks' x [B, C, ...], and the values per channel []."""
    variance, mean = torch.var_mean(x, dim=[0, *range(2, x.ndim)], correction=0)
    return merge_moments(mean, variance, mean.new_tensor(x.numel() // x.shape[1]))


def merge_moments(mean: Tensor, variance: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the moments of all ranks' values from those of each rank's own, which they are where nothing is shared.

    mean = sum_r n_r m_r / n,  variance = sum_r n_r (v_r + (m_r - mean)^2) / n,  n = sum_r n_r; with gradient.

    Args:
        mean: m_r.
        variance: v_r, biased.
        count: n_r, values per channel, or the sum of their weights.
    Shape:
        [C], [C], [] -> the same.
    Source: Chan et al. 1979.
    """
    if no_shares() == 1:
        return mean, variance, count
    own = torch.cat([count.reshape(1).to(mean.dtype), mean, variance])
    counts, means, variances = stack_ranks(own).split([1, len(mean), len(mean)], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(dim=0) / total
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / total
    return mean, variance, total


CONVERTED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def convert_norms(module: nn.Module) -> nn.Module:
    """Return the module with a `RankBatchNorm` in place of every batch norm of torch.

    Parameters and buffers are kept, not copied, so optimisers and state dicts stay valid. The change is in place,
    except where `module` is a batch norm itself. A norm in a module of a class with `norms_no_examples` stays: it
    normalises numbers that are the same on all ranks.

    Args:
        module: Any network.
    Raises:
        UserError: with several ranks, a norm of a class of its own, which would keep local statistics.
    """
    made: dict[nn.Module, RankBatchNorm] = {}
    alike = {
        child for part in module.modules() if getattr(part, "norms_no_examples", False) for child in part.children()
    }
    for name, norm in list(module.named_modules(remove_duplicate=False)):
        if norm in alike:
            continue
        if type(norm) in CONVERTED:
            assert isinstance(norm, _BatchNorm)
            made[norm] = made.get(norm) or converted(norm)
            if not name:
                return made[norm]
            module.set_submodule(name, made[norm])
        elif no_ranks() > 1 and keeps_statistics(norm):
            raise UserError(
                f"{name or 'the network'} is a {type(norm).__name__}, whose statistics would stay apart in "
                f"{no_ranks()} processes: choose a network with plain batch norms, or train in one process"
            )
    return module


def keeps_statistics(norm: nn.Module) -> bool:
    """Say whether a module follows statistics of its inputs, and of its own rank's alone."""
    if isinstance(norm, RankBatchNorm | nn.SyncBatchNorm):
        return False
    return isinstance(norm, _BatchNorm) or any("running_" in name for name, _ in norm.named_buffers(recurse=False))


def converted(norm: _BatchNorm) -> RankBatchNorm:
    """Return the norm over all ranks with the parameters, buffers and mode of a norm over one."""
    own = RankBatchNorm(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
        device="meta",  # replaced below
    )
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(own, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(own, name, buffer)
    own.train(norm.training)
    return own
