"""The equivariance audit as a probe: error of every layer on a few images, beside what the grid allows."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from partial_equiv.audit import AuditReport, ExactnessReport, audit, audit_page, check_exactness, make_moves
from partial_equiv.datasets import Batch
from partial_equiv.drawing import png
from partial_equiv.errors import UserError
from partial_equiv.probes.probe import Artifact, Probe


class Equivariance(Probe):
    """Equivariance error of every layer and of the output, over variation across images, in float64.

    Args:
        group: As `partial_equiv.audit.make_moves` names it.
        no_images: Images that are measured, 2 or more.
        layers: "leaf" for layers without parts, "all" for containers too.
    Raises:
        UserError: no such group, or fewer than 2 images.
    """

    def __init__(self, *, group: str, no_images: int, layers: Literal["leaf", "all"]) -> None:
        if no_images < 2:
            raise UserError(
                f"test.audit.no_images={no_images} is too few: give 2 or more, errors are normalised by pairs"
            )
        make_moves(group)  # an unknown group is told before anything is trained
        self.group, self.no_images, self.layers = group, no_images, layers
        self.report: AuditReport | None = None
        self.model: nn.Module | None = None

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "audit/<layer>", the largest error over the elements, the output's as "audit/output"."""
        self.model = model
        self.report = audit(model, self._images(loader), self.group, layers=self.layers)
        return {f"audit/{row.name}": row.cumulative for row in self.report.rows if row.cumulative is not None}

    def words(self) -> str:
        """Return the table of the layers."""
        return "" if self.report is None else self.report.table()

    def artifacts(self) -> dict[str, Artifact]:
        """Return the report as data, as a figure, and as a page together with the plan of the grid."""
        if self.report is None:
            return {}
        figure = self.report.figure()
        plan, reason = self._plan(self.report)
        facts = {"model": self.report.network, "images": f"{self.no_images} of the data", "group": self.group} | reason
        return {
            "audit.json": self.report.to_dict() | {"plan": None if plan is None else plan.to_dict()},
            "audit.png": figure,
            "audit.html": audit_page(facts, plan, self.report, png(figure)),
        }

    def _plan(self, report: AuditReport) -> tuple[ExactnessReport | None, dict[str, str]]:
        """Return the plan, or None and why there is none: the measurement stands without it."""
        assert self.model is not None
        _, channels, *size = report.shape
        try:
            return check_exactness(self.model, (size[0], size[1]), self.group, in_channels=channels), {}
        except UserError as error:
            return None, {"plan": f"none, {error}"}

    def _images(self, loader: Iterable[Batch]) -> Tensor:
        found: list[Tensor] = []
        for batch in loader:
            found.append(batch.images)
            if sum(map(len, found)) >= self.no_images:
                break
        return torch.cat(found)[: self.no_images]
