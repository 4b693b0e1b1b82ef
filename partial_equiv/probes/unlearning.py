"""Why one lifting convolution can, or cannot, learn to tell an image from its own quarter turn.

Axes: B batch, C channels, G elements, Y X image, V U filter.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.convs import GConv2d
from partial_equiv.datasets import Batch
from partial_equiv.errors import UserError
from partial_equiv.probes.probe import Artifact, Probe


class Unlearning(Probe):
    """Tap means of an image and of its quarter turn, and what the filter makes of them.

    A lifting convolution followed by a mean over pixels sees an image x only through its tap means m(x)[c, v, u], the
    mean of x over the lattice that tap (v, u) visits. On a symmetric grid m(T x) = T m(x) for the turn T, the responses
    of the elements are permuted, and no filter can tell x from T x; else the filter can weigh the difference
    |m(T x) - T m(x)| / |m(x) - mean m(x)|, a closed form that knows nothing of the training.

    Raises:
        UserError: the network does not begin with a lifting convolution of its own, `model.lifting`.
    Source: Edixhoven et al. 2023, the demonstration of learned un-equivariance. Differs: the closed form.
    """

    def __init__(self) -> None:
        self.picture: tuple[GConv2d, Tensor] | None = None

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "unlearning/remainder" (pixels), "unlearning/tap_difference" and "unlearning/response_error"."""
        lifting = getattr(model, "lifting", None)
        if not isinstance(lifting, GConv2d):
            raise UserError("test.probes=[unlearning] looks at one lifting convolution: set net=LiftingNet")
        image = next(iter(loader)).images[:1]
        self.picture = lifting, image
        turned, taps = torch.rot90(image, 1, dims=(-2, -1)), tap_means(lifting, image)
        expected = torch.rot90(taps, 1, dims=(-2, -1))
        difference = (tap_means(lifting, turned) - expected).norm() / (taps - taps.mean()).norm()
        plain, moved = lifting(image), torch.rot90(lifting(turned), -1, dims=(-2, -1)).roll(-1, dims=2)
        reach = lifting.dilation * (lifting.kernel_size - 1) + 1
        return {
            "unlearning/remainder": float((image.shape[-1] + 2 * lifting.padding - reach) % lifting.stride),
            "unlearning/tap_difference": float(difference),
            "unlearning/response_error": float((moved - plain).abs().mean() / (plain - plain.mean()).abs().mean()),
        }

    def artifacts(self) -> dict[str, Artifact]:
        """Return "unlearning.png": the image, its turn, the filter, and the response to both."""
        if self.picture is None:
            return {}
        from partial_equiv.drawing import unlearning

        lifting, image = self.picture
        with torch.no_grad():
            turned = torch.rot90(image, 1, dims=(-2, -1))
            response = lifting(image).sum(dim=2)
            back = torch.rot90(lifting(turned).sum(dim=2), -1, dims=(-2, -1))
            pictures = [image[0, 0], turned[0, 0], lifting.full_weight()[0, 0, 0], response[0, 0], back[0, 0]]
        return {"unlearning.png": unlearning([picture.detach().cpu().numpy() for picture in pictures])}


def tap_means(lifting: GConv2d, image: Tensor) -> Tensor:
    """Return the mean of an image over the lattice that each tap of a filter visits: [1, C, Y, X] -> [C, V, U]."""
    size = lifting.kernel_size
    windows = functional.unfold(image, size, lifting.dilation, lifting.padding, lifting.stride)
    return windows.mean(dim=-1).reshape(image.shape[1], size, size)
