"""From the embedding of one view to that of another, or from two views to what lies between them.

Axes: B pairs, D numbers of an embedding, L of the latent of a pair.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from partial_equiv.errors import UserError
from partial_equiv.latents import LatentEncoding
from partial_equiv.menu import bind, choose
from partial_equiv.nets.hypernetwork import NOISE, Hypernetwork
from partial_equiv.nets.predictor import Init, Predictor


class ConcatMLP(Predictor):
    """Linear maps of the latent and the embedding side by side, (g, z), with ReLU between.

    Args:
        width: D.
        encoding: What the latent holds: L, and the latent of no change.
        tf_num_layers: How many linear maps; 1, published, is affine, so that g can only shift z.
        init: published, the default of torch; or identity: z for the latent of no change, for one map.
    Shape:
        z [B, D], g [B, L] -> [B, D].
    Raises:
        UserError: fewer than 1 layer, or init=identity with more.
    Source: Garrido et al. 2023, with `tf_num_layers` 1.
    """

    def __init__(self, width: int, encoding: LatentEncoding, *, tf_num_layers: int, init: Init) -> None:
        super().__init__()
        if tf_num_layers < 1:
            raise UserError(f"train.predictor.tf_num_layers={tf_num_layers} predicts nothing: give 1 or more")
        layers: list[nn.Module] = [nn.Linear(encoding.width + width, width)]
        for _ in range(tf_num_layers - 1):
            layers += [nn.ReLU(), nn.Linear(width, width)]
        self.layers = nn.Sequential(*layers)
        if init == "identity":
            self._start_as_identity(encoding)

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Predict."""
        predicted: Tensor = self.layers(torch.cat([g, z], dim=-1))
        return predicted

    @torch.no_grad()
    def _start_as_identity(self, encoding: LatentEncoding) -> None:
        if len(self.layers) > 1:
            raise UserError(
                "train.predictor.init=identity of kind=mlp needs train.predictor.tf_num_layers=1: "
                "set it, or train.predictor.init=published"
            )
        only = self.layers[0]
        assert isinstance(only, nn.Linear)
        of_g, of_z = only.weight[:, : encoding.width], only.weight[:, encoding.width :]
        of_g.normal_(std=NOISE)
        nn.init.eye_(of_z)
        only.bias.copy_(-of_g @ encoding.identity())


class EmbeddedMLP(Predictor):
    """The predictor of the original EquiMod: a linear map of the embedding beside an embedded latent.

    norm(P [z, norm(E g)]), where E has a bias, P has none, and the last norm neither scale nor shift.

    Args:
        width: D, also that of the embedded latent.
        encoding: What the latent holds: L.
        init: published, the default of torch.
    Shape:
        z [B, D], g [B, L] -> [B, D]; in training B of 2 or more, for the norms.
    Raises:
        UserError: init=identity, which the last norm forbids.
    Source: Devillers & Lefort 2023, with one layer.
    """

    def __init__(self, width: int, encoding: LatentEncoding, *, init: Init) -> None:
        super().__init__()
        if init != "published":
            raise UserError(
                "train.predictor.kind=embedded_mlp normalises its result: set train.predictor.init=published"
            )
        self.embed = nn.Sequential(nn.Linear(encoding.width, width), nn.BatchNorm1d(width))
        self.predict = nn.Sequential(nn.Linear(2 * width, width, bias=False), nn.BatchNorm1d(width, affine=False))

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Predict."""
        predicted: Tensor = self.predict(torch.cat([z, self.embed(g)], dim=-1))
        return predicted


class GroupAction(Predictor):
    """A fixed action of the rotation on the embedding: copies of the Wigner matrices of each degree. Learns nothing.

    W(g) = rho(g)^T in the frame of the body, rho(g) in that of the world, with rho(g) the block-diagonal matrix of
    n copies of D_0, then n of D_1, .., n of D_max; numbers that are left over join degree 0, which does not turn.
    Poses compose as g_ac = g_bc g_ab in the frame of the world, but as g_ac = g_ab g_bc in that of the body; the
    predictions from a to b to c compose as W(g_bc) W(g_ab) in both. So rho, which keeps the order of a product, is
    right in the first, and its transpose, which turns the order round, in the second: z(R g) = rho(g)^T z(R), as it
    holds for z(R) = rho(R)^T z(1).

    Args:
        width: D.
        encoding: parts (rotation,) as wigner; its frame says on which side g acts.
    Shape:
        z [B, D], g [B, L] -> [B, D], of the same length.
    Raises:
        UserError: another encoding, or D too small for one copy of each degree.
    """

    def __init__(self, width: int, encoding: LatentEncoding) -> None:
        super().__init__()
        if encoding.parts != ("rotation",) or encoding.rotation != "wigner":
            raise UserError(
                f"train.predictor.kind=group_action acts by rotations alone, not by {', '.join(encoding.parts)} as "
                f"{encoding.rotation}: set train.latents=[rotation] and train.encoding.rotation=wigner"
            )
        self.frame = encoding.frame
        self.degrees = range(1, encoding.max_degree + 1)
        least = (encoding.max_degree + 1) ** 2
        self.copies = width // least
        self.unmoved = width - self.copies * (least - 1)
        if self.copies < 1:
            raise UserError(
                f"an embedding of {width} numbers has no room for degrees 0 to {encoding.max_degree}: "
                f"give train.mlp a last width that leaves {least} or more, or a smaller train.encoding.max_degree"
            )

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Predict."""
        sizes = [2 * degree + 1 for degree in self.degrees]
        unmoved, *parts = z.split([self.unmoved, *(self.copies * size for size in sizes)], dim=-1)
        _, *blocks = g.split([1, *(size**2 for size in sizes)], dim=-1)
        moved = [unmoved]
        for size, part, block in zip(sizes, parts, blocks, strict=True):
            matrix = block.unflatten(-1, (size, size))  # vectors are rows here, so D acts as its transpose
            turned = part.unflatten(-1, (self.copies, size)) @ (matrix if self.frame == "body" else matrix.mT)
            moved.append(turned.flatten(-2))
        return torch.cat(moved, dim=-1)

    def matrix(self, g: Tensor) -> Tensor:
        """Return W(g): [B, L] -> [B, D, D]."""
        width = self.unmoved + self.copies * sum(2 * degree + 1 for degree in self.degrees)
        axes = torch.eye(width, dtype=g.dtype, device=g.device).repeat(len(g), 1)
        columns: Tensor = self(axes, g.repeat_interleave(width, dim=0)).unflatten(0, (-1, width))
        return columns.mT


class ParamRegressor(nn.Module):
    """From the representations of two views to what lies between them, as AugSelf asks.

    Three linear maps of (h_x, h_y), of widths 2 D, 2 D and L, with ReLU between.

    Args:
        no_repr: D, the width of one representation.
        no_latents: L.
    Shape:
        h_x [B, D], h_y [B, D] -> [B, L].
    Source: Lee et al. 2021 (AugSelf), of three layers as in Garrido et al. 2023.
    """

    def __init__(self, no_repr: int, no_latents: int) -> None:
        super().__init__()
        both = 2 * no_repr
        self.layers = nn.Sequential(
            nn.Linear(both, both), nn.ReLU(), nn.Linear(both, both), nn.ReLU(), nn.Linear(both, no_latents)
        )

    def forward(self, h_x: Tensor, h_y: Tensor) -> Tensor:
        """Regress."""
        latent: Tensor = self.layers(torch.cat([h_x, h_y], dim=-1))
        return latent


PREDICTORS: dict[str, Callable[..., Predictor]] = {
    "hypernetwork": Hypernetwork,
    "mlp": ConcatMLP,
    "embedded_mlp": EmbeddedMLP,
    "group_action": GroupAction,
}


def make_predictor(
    width: int,
    encoding: LatentEncoding,
    *,
    kind: str,
    hypernetwork: Literal["linear", "deep"],
    hidden: int | None,
    widths: Sequence[int] | None,
    relu: bool,
    bias_pred: bool,
    bias_hypernet: bool,
    init: Init,
    tf_num_layers: int,
) -> Predictor:
    """Return the predictor `kind`, made from those of the choices that it has a use for.

    Args:
        width: D, of the embedding that is predicted.
        encoding: What the latent of a pair holds.
        kind: A name of `PREDICTORS`.
        hypernetwork: Of a hypernetwork, linear or deep.
        hidden: Of a deep one, its width; None is L.
        widths: Of a hypernetwork, widths between the maps whose weights it predicts.
        relu: Of a hypernetwork, whether there is a ReLU between these maps.
        bias_pred: Of a hypernetwork, whether these maps have a predicted bias.
        bias_hypernet: Of a hypernetwork, whether its own maps have a bias.
        init: identity, which predicts no change for the latent of no change; or published, the default of torch.
        tf_num_layers: Of mlp, its linear maps.
    Shape:
        The predictor maps z [B, D] and g [B, L] to [B, D].
    Raises:
        UserError: an unknown kind, or choices that it cannot have.
    """
    choices = {
        "hypernetwork": hypernetwork,
        "hidden": hidden,
        "widths": widths,
        "relu": relu,
        "bias_pred": bias_pred,
        "bias_hypernet": bias_hypernet,
        "init": init,
        "tf_num_layers": tf_num_layers,
    }
    choose(PREDICTORS, kind, "train.predictor.kind")
    return bind(PREDICTORS, kind, choices, "train.predictor", later=("width", "encoding"))(width, encoding)
