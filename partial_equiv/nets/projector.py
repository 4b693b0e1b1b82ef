"""Projectors: from a representation, or a part of it, to the embedding that a loss sees.

Axes: B batch, D numbers.
"""

from collections.abc import Sequence

from torch import nn

from partial_equiv.errors import UserError


def make_projector(no_in: int, widths: Sequence[int], *, last_bias: bool = False, plain: bool = False) -> nn.Sequential:
    """Return linear maps, each but the last followed by batch norm and ReLU.

    Published: hidden maps have a bias, the last has neither bias nor norm nor ReLU.

    Args:
        no_in: Width of the representation.
        widths: Width of each map's output, the embedding's last.
        last_bias: Whether the last map has a bias.
        plain: The form of the original EquiMod: no map has a bias, and the embedding is normalised over the batch
            without scale and shift.
    Shape:
        [B, no_in] -> [B, widths[-1]]; in training B of 2 or more, for the norms.
    Source: Garrido et al. 2023; with `plain`, Devillers & Lefort 2023.
    """
    layers: list[nn.Module] = []
    for width in widths[:-1]:
        layers += [nn.Linear(no_in, width, bias=not plain), nn.BatchNorm1d(width), nn.ReLU()]
        no_in = width
    layers.append(nn.Linear(no_in, widths[-1], bias=last_bias and not plain))
    if plain:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


def parse_widths(text: str | int) -> list[int]:
    """Return the widths that "2048-2048-2048" says; YAML reads a single one as an integer.

    Raises:
        UserError: something else than whole numbers above 0 between hyphens.
    """
    words = str(text).split("-")
    if isinstance(text, bool) or not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise UserError(
            f"train.mlp={text!r} is no list of widths: give whole numbers above 0 between hyphens, such as 128-128-128"
        )
    return [int(word) for word in words]


def scaled(widths: Sequence[int], ratio: float) -> list[int]:
    """Return the widths for a part that is `ratio` of the representation, rounded.

    Raises:
        UserError: the part is so small that a width rounds to 0.
    """
    result = [round(width * ratio) for width in widths]
    if min(result) < 1:
        raise UserError(
            f"train.mlp={'-'.join(map(str, widths))} leaves no width for a part that is {ratio:.3g} of the "
            "representation: give larger widths, or share the representation more evenly by net.equi"
        )
    return result
