"""What a predictor is told of a pair of views: how the first becomes the second.

Axes: B pairs, C columns of an absolute latent, L numbers of an encoded one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from partial_equiv.datasets import SCENE
from partial_equiv.datasets import TURNS as ANGLES
from partial_equiv.errors import UserError
from partial_equiv.menu import choose, nearest
from partial_equiv.rotations import (
    canonical,
    conjugate,
    euler_quaternion,
    multiply,
    quaternion_euler,
    quaternion_matrix,
    stack_width,
    wigner_stack,
)

HUES = ("floor_hue", "light_hue")
SCALARS = SCENE[len(ANGLES) :]
PARTS = ("rotation", *SCALARS, "augmentation")
RotationCode = Literal["quaternion", "canonical_quaternion", "matrix", "wigner", "euler"]
HueCode = Literal["raw", "circular"]
Frame = Literal["body", "world"]


@dataclass(frozen=True, kw_only=True)
class LatentEncoding:
    """The latent of a pair of views as a row of numbers, made from the absolute latents of both.

    rotation, frame body:  R1^-1 R2, and the latents of a, b, c compose as g_ab g_bc = g_ac
    rotation, frame world: R2 R1^-1, and g_bc g_ab = g_ac
    hues and light angles: second minus first, not wrapped; circular hues are (sin, cos) of 2 pi times the difference
    augmentation:          the columns of the second view, of what was done to it alone

    Light angles have no circular form.

    Args:
        parts: What the row holds, in this order: any of rotation, floor_hue, light_theta, light_phi and light_hue; or
            augmentation alone.
        rotation: quaternion (x, y, z, w), sign as the product has it (published, odd: two rows for one rotation);
            canonical_quaternion with w >= 0; matrix row by row; wigner, the matrices of degree 0 to `max_degree`;
            euler, angles about the fixed x, y, z.
        max_degree: Highest degree of wigner, from 1; unused by others.
        hue: raw differences in (-1, 1), or circular.
        frame: body, in which the object has its own axes (published), or world.
        columns: Names of the columns of absolute latents, for example `partial_equiv.latents.COLUMNS`.
    Shape:
        source [..., C], target [..., C] -> `relative` [..., L] with L = `width`.
    Raises:
        UserError: an unknown part, or one whose columns are not there; the message lists what would fit.
    Source: Garrido et al. 2023: parts rotation, or rotation, floor_hue and light_hue; quaternion, raw, body.
    """

    parts: tuple[str, ...]
    rotation: RotationCode
    max_degree: int
    hue: HueCode
    frame: Frame
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("parts", "columns"):  # YAML and JSON give lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise UserError(f"train.latents={list(self.parts)} must name each part once: {', '.join(PARTS)}")
        for part in self.parts:
            self._check_part(part)
        choose(ROTATION_CODES, self.rotation, "train.encoding.rotation")
        for name, value, hint in (("hue", self.hue, HueCode), ("frame", self.frame, Frame)):
            if value not in get_args(hint):
                raise UserError(f"train.encoding.{name}={value!r} is not one of: {', '.join(get_args(hint))}")
        if self.rotation == "wigner" and self.max_degree < 1:
            raise UserError(
                f"train.encoding.max_degree={self.max_degree} tells nothing of the rotation: give 1 or more"
            )

    @property
    def width(self) -> int:
        """L, how many numbers `relative` gives."""
        return sum(self._part_width(part) for part in self.parts)

    @property
    def composes(self) -> bool:
        """Whether the latents of (a, b) and (b, c) determine that of (a, c), as differences of poses do."""
        return "augmentation" not in self.parts

    def identity(self) -> Tensor:
        """Return the latent of a view and itself, of an augmentation zeros: [L], float32."""
        nothing = torch.zeros(len(self.columns), dtype=torch.float64)
        return self.relative(nothing, nothing).float()

    def relative(self, source: Tensor, target: Tensor) -> Tensor:
        """Return what leads from source to target: [..., C], [..., C] -> [..., L]."""
        return torch.cat([self._part(part, source, target) for part in self.parts], dim=-1)

    def _part(self, part: str, source: Tensor, target: Tensor) -> Tensor:
        if part == "augmentation":
            return target
        if part == "rotation":
            first, second = (euler_quaternion(self._columns(view, *ANGLES)) for view in (source, target))
            return ROTATION_CODES[self.rotation](_between(first, second, self.frame), self.max_degree)
        difference = self._columns(target, part) - self._columns(source, part)
        if part in HUES and self.hue == "circular":
            turn = 2 * math.pi * difference
            return torch.cat([turn.sin(), turn.cos()], dim=-1)
        return difference

    def _part_width(self, part: str) -> int:
        if part == "augmentation":
            return len(self.columns)
        if part == "rotation":
            fixed = {"quaternion": 4, "canonical_quaternion": 4, "matrix": 9, "euler": 3}
            return stack_width(self.max_degree) if self.rotation == "wigner" else fixed[self.rotation]
        return 2 if part in HUES and self.hue == "circular" else 1

    def _columns(self, view: Tensor, *names: str) -> Tensor:
        # Not by a list of positions, which an accelerator would have to be sent, and waited for, in every step.
        return torch.stack([view[..., self.columns.index(name)] for name in names], dim=-1)

    def _check_part(self, part: str) -> None:
        if part not in PARTS:
            raise UserError(
                f"train.latents has {part!r}, which is not one of: {', '.join(PARTS)}{nearest(str(part), PARTS)}"
            )
        if part == "augmentation" and len(self.parts) > 1:
            raise UserError("train.latents has augmentation beside others: give train.latents=[augmentation] alone")
        needed = {"rotation": ANGLES, "augmentation": self.columns[:1] or ("of recorded parameters",)}.get(
            part, (part,)
        )
        if missing := [name for name in needed if name not in self.columns]:
            known = ", ".join(self.columns) or "none"
            raise UserError(
                f"train.latents has {part}, but the views have no column {', '.join(missing)} (they have: {known}): "
                "choose other train.latents or another data set"
            )


def published_rotation(source: Tensor, target: Tensor) -> Tensor:
    """Return what the published evaluations of rotation predict: the quaternion conj(q1) q2, sign as it comes.

    Args:
        source: Absolute latents, whose first columns are `ANGLES`.
        target: Those of the second view.
    Shape:
        [..., C], [..., C] -> [..., 4] as (x, y, z, w).
    """
    first, second = euler_quaternion(source[..., :3]), euler_quaternion(target[..., :3])
    return _between(first, second, "body")


def _between(first: Tensor, second: Tensor, frame: Frame) -> Tensor:
    """Return the quaternion of R1^-1 R2 in the frame of the body, of R2 R1^-1 in that of the world."""
    back = conjugate(first)
    return multiply(back, second) if frame == "body" else multiply(second, back)


def _as_wigner(q: Tensor, max_degree: int) -> Tensor:
    return wigner_stack(quaternion_matrix(q), max_degree)


ROTATION_CODES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "quaternion": lambda q, _: q,
    "canonical_quaternion": lambda q, _: canonical(q),
    "matrix": lambda q, _: quaternion_matrix(q).flatten(-2),
    "wigner": _as_wigner,
    "euler": lambda q, _: quaternion_euler(q),
}
