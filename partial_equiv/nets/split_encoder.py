"""Split encoders: a representation of which one part shall ignore a transformation and the other follow it.

Axes: B batch, C channels, Y X image, D numbers of the representation.
"""

from typing import Literal

from torch import Tensor, nn

from partial_equiv.errors import UserError
from partial_equiv.menu import choose
from partial_equiv.nets.backbones import make_backbone

Part = Literal["all", "inv", "equi"]


class SplitEncoder(nn.Module):
    """h = f(x) = (h_inv, h_equi): the first D - D_e numbers are the invariant part, the last D_e the equivariant one.

    The cut alone makes nothing invariant: training does, or a backbone that is so by construction.

    Args:
        backbone: Images -> representation.
        width: D.
        equi: D_e, 0 for a representation of one part.
    Shape:
        images [B, C, Y, X] -> h [B, D].
    Raises:
        UserError: D_e is negative or above D, or the backbone returns another width.
    Source: Garrido et al. 2023.
    """

    def __init__(self, backbone: nn.Module, *, width: int, equi: int) -> None:
        super().__init__()
        check_parts(width, equi)
        self.backbone, self.width, self.equi = backbone, width, equi

    @property
    def widths(self) -> dict[str, int]:
        """Width of "all", "inv" and "equi"; a part of width 0 is not there."""
        found = {"all": self.width, "inv": self.width - self.equi, "equi": self.equi}
        return {part: width for part, width in found.items() if width}

    def forward(self, images: Tensor) -> Tensor:
        """Encode."""
        h: Tensor = self.backbone(images)
        if h.shape[1:] != (self.width,):
            raise UserError(
                f"the backbone returns {list(h.shape)} for {len(images)} images and width={self.width} promises "
                f"[{len(images)}, {self.width}]: give the width of the backbone, its maps pooled and flattened"
            )
        return h

    def part(self, h: Tensor, name: Part) -> Tensor:
        """Return a part of representations: [B, D] -> [B, widths[name]].

        Raises:
            UserError: there is no such part.
        """
        choose(self.widths, name, f"part of a representation with net.equi={self.equi} of {self.width} numbers")
        assert h.shape[-1] == self.width, "a representation, not an embedding"
        cut = self.width - self.equi
        return {"all": h, "inv": h[..., :cut], "equi": h[..., cut:]}[name]


def check_parts(width: int, equi: int) -> None:
    """Check that a representation can be cut.

    Raises:
        UserError: a negative width, or an equivariant part that is larger than the whole.
    """
    if equi > width:
        raise UserError(
            f"net.equi={equi} makes the equivariant width larger than the representation, which has {width} numbers: "
            f"give 0 to {width}"
        )
    if equi < 0:
        raise UserError(f"net.equi={equi} is negative: give the width of the equivariant part, 0 to {width}")


def make_split_encoder(
    *, in_channels: int, size: tuple[int, int], backbone: str, width: int | None, equi: int
) -> SplitEncoder:
    """Return a split encoder with a backbone of `make_backbone`.

    Args:
        in_channels: Of the images.
        size: (Y, X) in pixels.
        backbone: Its name.
        width: D, None for the backbone's own.
        equi: D_e.

    Raises:
        UserError: no such backbone, or widths that do not fit it.
    """
    network, own = make_backbone(backbone, in_channels=in_channels, size=size, width=width)
    return SplitEncoder(network, width=own, equi=equi)
