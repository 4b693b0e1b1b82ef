"""SplitCKResNet: a split encoder of our own group convolutions, whose two parts are such by construction.

Axes: B batch, S sample sets (1 or B), C channels, G elements, Y X image, D numbers, K frequencies, P pairs.
"""

import torch
from torch import Tensor, nn

from partial_equiv.convs import GroupFeatureMap
from partial_equiv.errors import UserError
from partial_equiv.nets.ckresnet import CKResNet
from partial_equiv.nets.kit import ConvKit
from partial_equiv.nets.split_encoder import SplitEncoder, check_parts


class TurningReadout(nn.Module):
    """Features on a group -> (numbers that ignore turns of the image, pairs that turn along).

    Pixels are pooled first, to their maximum and their mean; a convolution over the elements, norm and ReLU make p(h)
    of that, D channels. The invariant part is linear in mean_h p(h). The pair of frequency k is, as a complex number
    with learned weights w_c, v = sum_c w_c mean_h p_c(h) exp(i k r(h)), r the angle of h: a turn of the image by a
    multiplies it by exp(i k a). A mirrored h counts with the conjugate of w_c, so that a mirror of the columns
    conjugates v.

    Args:
        in_channels: C.
        kit: Makers of the layers.
        width: D.
        equi: Numbers of the pairs, even; they follow the invariant ones.
        no_frequencies: K; the pairs take the frequencies 1, .., K in turn.
    Shape:
        values [B, C, G, Y, X], elements [S, G, d], weights [S, G] or None -> [B, D].
    """

    def __init__(self, in_channels: int, *, kit: ConvKit, width: int, equi: int, no_frequencies: int) -> None:
        super().__init__()
        self.mix, self.mix_norm = kit.pointwise(2 * in_channels, width), kit.norm(width)
        self.invariant = nn.Linear(width, width - equi) if width > equi else None
        # A pair sums over all channels, so that it starts with the size of one moment.
        self.turn = nn.Parameter(torch.randn(width, equi // 2, 2) / width**0.5) if equi else None
        self.no_frequencies = no_frequencies

    def forward(self, f: GroupFeatureMap) -> Tensor:
        """Read out."""
        axes = (-2, -1)
        pooled = f.map(lambda values: torch.cat([values.amax(axes, True), values.mean(axes, True)], dim=1))
        mixed: GroupFeatureMap = self.mix_norm(self.mix(pooled, f.sample))
        return self.read(mixed.map(torch.relu))

    def read(self, f: GroupFeatureMap) -> Tensor:
        """Return the representation of pooled features: [B, D, G, 1, 1] -> [B, D]."""
        count = f.values.shape[2] if f.weights is None else f.weights.sum(dim=-1)[:, None, None]
        response = f.weighted().flatten(2) / count
        parts = [] if self.invariant is None else [self.invariant(response.sum(dim=-1))]
        pairs = [] if self.turn is None else [self.pairs(response, f.elements).flatten(1)]
        return torch.cat([*parts, *pairs], dim=-1)

    def pairs(self, response: Tensor, elements: Tensor) -> Tensor:
        """Return the pairs, (real, imaginary): [B, D, G], [S, G, d] -> [B, P, 2]."""
        assert self.turn is not None
        k = torch.arange(1, self.no_frequencies + 1, device=elements.device, dtype=elements.dtype)
        phases = elements[..., :1] * k  # [S, G, K]
        waves = torch.stack([phases.cos(), phases.sin()], dim=1).to(response.dtype)
        frequency = torch.arange(self.turn.shape[1], device=elements.device) % self.no_frequencies

        def moments(weighted: Tensor) -> tuple[Tensor, ...]:
            return (weighted.unsqueeze(1) @ waves)[..., frequency].unbind(1)  # real and imaginary, [B, D, P]

        real, imaginary = signed_real, signed_imaginary = moments(response)
        if elements.shape[-1] > 1:  # a conjugated weight has the opposite imaginary part
            signed_real, signed_imaginary = moments(response * elements[..., 1].unsqueeze(1).to(response.dtype))
        scale, turn = self.turn.unbind(-1)
        parts = [real * scale - signed_imaginary * turn, imaginary * scale + signed_real * turn]
        return torch.stack(parts, dim=-1).sum(dim=1)


class TurningBackbone(nn.Module):
    """The trunk of a CKResNet and its readout.

    Args:
        trunk: Lifting, blocks and last convolution.
        readout: Features -> representation.
    Shape:
        [B, C, Y, X] -> [B, D].
    """

    def __init__(self, trunk: CKResNet, readout: TurningReadout) -> None:
        super().__init__()
        self.trunk, self.readout = trunk, readout

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode; `generator` draws the random elements, None is torch's own."""
        h: Tensor = self.readout(self.trunk.features(images, generator))
        return h


def make_split_ckresnet(
    *,
    in_channels: int,
    size: tuple[int, int],
    kit: ConvKit,
    width: int,
    equi: int,
    no_frequencies: int,
    no_hidden: int,
    no_blocks: int,
    dropout: float,
    block_width_factors: list[float] | None,
    pool_blocks: list[int],
) -> SplitEncoder:
    """Return a split encoder whose parts ignore and follow turns of the image in its plane by construction.

    When the image turns by a, the invariant part stays and a pair of frequency k turns by k a: exactly for quarter
    turns where the pixel grid allows and the elements hold them, nearly for other turns. With reflections (E2, D<n>) a
    mirror of the columns conjugates the pairs. With conv=partial this holds for the learned subset alone.

    The group is one of the plane. The image of an object that rotates in space (3DIEBench, shapes3d) does not turn by
    that, so there neither part is invariant or equivariant unless training makes it so.

    Args: those of `CKResNet`, and
        width: Numbers of the representation.
        equi: Numbers of its equivariant part, even.
        no_frequencies: K, below half of the turns; the pairs take the frequencies 1, .., K in turn.

    Raises:
        UserError: an odd or too large equivariant part, more frequencies than the turns tell apart, or what a CKResNet
            refuses.
    Source: Romero & Lohit 2022 for the layers, Garrido et al. 2023 for the split.
    """
    _check(kit, width, equi, no_frequencies)
    trunk = CKResNet(
        in_channels=in_channels,
        no_classes=None,
        size=size,
        kit=kit,
        no_hidden=no_hidden,
        no_blocks=no_blocks,
        dropout=dropout,
        block_width_factors=block_width_factors,
        pool_blocks=pool_blocks,
        last_conv_T2=False,
        learnable_final_pooling=False,
        final_spatial_dim=[],
    )
    readout = TurningReadout(trunk.no_channels, kit=kit, width=width, equi=equi, no_frequencies=no_frequencies)
    return SplitEncoder(TurningBackbone(trunk, readout), width=width, equi=equi)


def _check(kit: ConvKit, width: int, equi: int, no_frequencies: int) -> None:
    if width < 1:
        raise UserError(f"net.width={width} is no width of a representation: give 1 or more, for example 128")
    check_parts(width, equi)
    if equi % 2:
        raise UserError(f"net.equi={equi} is odd and the numbers turn in pairs: give {equi - 1} or {equi + 1}")
    turns = kit.group.no_rotations(kit.no_samples)
    if equi and not 0 < 2 * no_frequencies < turns:
        most = (turns - 1) // 2
        raise UserError(
            f"net.no_frequencies={no_frequencies} does not fit the {turns} turn(s) of {kit.group.name}, which tell "
            f"{most} frequencies apart: {f'give 1 to {most}' if most else 'set base_group=SE2, or net.equi=0'}"
        )
