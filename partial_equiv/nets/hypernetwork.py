"""A network whose weights are predicted from the latent of a pair, without ever writing them down.

Axes: B pairs, D numbers of an embedding, L of a latent, K of a code, O and I the outputs and inputs of a map.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.errors import UserError
from partial_equiv.latents import LatentEncoding
from partial_equiv.nets.predictor import Init, Predictor

NOISE = 0.1
"""How far, relative to its length, a prediction is moved at first by each number of the latent."""


class Hypernetwork(Predictor):
    """Linear maps whose weights are linear in a code of the latent.

    z <- sum_k c_k(g) M_k z  (+ sum_k c_k(g) b_k), once for each map, with c(g) = g or, deep, a small network of g;
    c has a last number 1 with `bias_hypernet`.
    This equals the published form, which predicts all entries of W(g) = sum_k c_k M_k and multiplies by them, but
    needs B K D numbers instead of B D^2. The linear kind without biases is odd: W(-g) = -W(g). So of quaternions it can
    only be a true action by half-integer spins; the even encodings (matrix, wigner) allow the others.

    Args:
        width: D.
        encoding: What the latent holds: L, and the latent of no change.
        hypernetwork: linear, or deep: Linear, ReLU, Linear, ReLU before the maps.
        hidden: Width of the two hidden layers of deep; None is L, as published.
        widths: Widths between the maps; None or empty is one map from D to D.
        relu: Whether there is a ReLU between the maps.
        bias_pred: Whether each map has a predicted bias.
        bias_hypernet: Whether the linear maps of the hypernetwork have biases.
        init: published, the default of torch: entries of M up to 1 / sqrt(K) in size, which lengthens z by about
            0.29 sqrt(D) for a quaternion. identity: W(e) = 1 for the latent e of no change. With `bias_hypernet` the
            bias is the identity; without, M_k = e_k / |e|^2. On top comes noise that cancels at e, without which every
            prediction would be parallel to z and a deep code would get no gradient in the first step.
    Shape:
        z [B, D], g [B, L] -> [B, D].
    Raises:
        UserError: a width below 1; or init=identity with inner widths, or where without `bias_hypernet` the code of e
            may be 0: a deep one, or an e of zeros (euler angles, differences, augmentations).
    Source: Garrido et al. 2023. Differs: factorised, deep code of any width, identity as a start.
    """

    def __init__(
        self,
        width: int,
        encoding: LatentEncoding,
        *,
        hypernetwork: Literal["linear", "deep"],
        hidden: int | None,
        widths: Sequence[int] | None,
        relu: bool,
        bias_pred: bool,
        bias_hypernet: bool,
        init: Init,
    ) -> None:
        super().__init__()
        deep = hypernetwork == "deep"
        no_code = (encoding.width if hidden is None else hidden) if deep else encoding.width
        sizes = [width, *(widths or ()), width]
        if no_code < 1 or min(sizes) < 1:
            raise UserError(
                f"train.predictor.hidden={hidden} and train.predictor.widths={list(widths or ())} must be 1 or more"
            )
        self.relu, self.bias_hypernet = relu, bias_hypernet
        self.trunk = _trunk(encoding.width, no_code, bias_hypernet) if deep else None
        rows = no_code + bias_hypernet
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        self.maps = nn.ParameterList(torch.empty(rows, no_out, no_in) for no_out, no_in in shapes)
        self.offsets = nn.ParameterList(torch.empty(rows, no_out) for no_out, _ in shapes if bias_pred)
        for parameter in (*self.maps, *self.offsets):
            nn.init.uniform_(parameter, -(no_code**-0.5), no_code**-0.5)
        if init == "identity":
            self._start_as_identity(encoding)

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Predict."""
        code = self._code(g)
        for number, rows in enumerate(self.maps):
            if number and self.relu:
                z = functional.relu(z)
            # One product with all M_k side by side, then a sum weighed by the code.
            parts = functional.linear(z, rows.flatten(0, 1)).unflatten(-1, rows.shape[:2])
            z = torch.bmm(code[:, None], parts).squeeze(1)
            if self.offsets:
                z = z + code @ self.offsets[number]
        return z

    def matrix(self, g: Tensor) -> Tensor:
        """Return W(g), without the predicted bias: [B, L] -> [B, D, D].

        Raises:
            UserError: there are inner widths.
        """
        if len(self.maps) > 1:
            return super().matrix(g)
        return torch.einsum("bk,koi->boi", self._code(g), self.maps[0])

    def _code(self, g: Tensor) -> Tensor:
        code = g if self.trunk is None else self.trunk(g)
        return torch.cat([code, torch.ones_like(code[:, :1])], dim=-1) if self.bias_hypernet else code

    @torch.no_grad()
    def _start_as_identity(self, encoding: LatentEncoding) -> None:
        if len(self.maps) > 1:
            raise UserError(
                "train.predictor.init=identity needs one map, without inner widths: leave train.predictor.widths "
                "empty, or set train.predictor.init=published"
            )
        identity = encoding.identity()[None]
        if not self.bias_hypernet and (self.trunk is not None or not identity.any()):
            why = "the latent of no change is zero" if self.trunk is None else "hypernetwork=deep"
            raise UserError(
                f"train.predictor.init=identity has nothing to hold to without a bias, as {why}: "
                "set train.predictor.bias_hypernet=true, or train.predictor.init=published"
            )
        code = self._code(identity)[0]
        # Of all sum_k code_k share_k = 1: the bias alone, or else the shortest.
        share = (
            functional.one_hot(torch.tensor(len(code) - 1)).to(code) if self.bias_hypernet else code / code.dot(code)
        )
        (maps,) = self.maps
        noise = torch.randn_like(maps) * NOISE / maps.shape[-1] ** 0.5
        cancelled = noise - torch.einsum("j,k,koi->joi", share, code, noise)
        maps.copy_(torch.einsum("k,oi->koi", share, torch.eye(maps.shape[-1])) + cancelled)
        for offset in self.offsets:
            offset.zero_()


def _trunk(no_latents: int, no_hidden: int, bias: bool) -> nn.Sequential:
    """Return the code of a deep hypernetwork: [B, L] -> [B, K], nowhere below 0."""
    first, second = nn.Linear(no_latents, no_hidden, bias=bias), nn.Linear(no_hidden, no_hidden, bias=bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
