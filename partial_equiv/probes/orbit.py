"""Accuracy on test images moved by a group, and along the whole circle."""

from collections.abc import Iterable, Iterator
from itertools import chain

from torch import nn

from partial_equiv.audit import OrbitReport, evaluate_orbit, make_moves
from partial_equiv.datasets import Batch
from partial_equiv.errors import UserError
from partial_equiv.probes.probe import Artifact, Probe


class Orbit(Probe):
    """Accuracy at every element of a group on all images, and at evenly spread turns on the first of them.

    Args:
        group: As `partial_equiv.audit.make_moves` names it, for example "C4" or "D4".
        no_angles: Turns of the curve, 360 / no_angles degrees apart; None draws no curve.
        no_curve_images: Images that the curve is measured on; None takes all.
    Raises:
        UserError: no such group, or a number out of range.
    """

    def __init__(self, *, group: str, no_angles: int | None, no_curve_images: int | None) -> None:
        for key, value, least in (("no_angles", no_angles, 2), ("no_curve_images", no_curve_images, 1)):
            if value is not None and value < least:
                raise UserError(f"test.orbit.{key}={value} is out of range: give {least} or more, or null")
        make_moves(group)  # an unknown group is told before anything is trained
        self.group, self.no_angles, self.no_curve_images = group, no_angles, no_curve_images
        self.elements: OrbitReport | None = None
        self.curve: OrbitReport | None = None

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "orbit/..." for upright, unseen, mean, worst, spread, consistency, and every element."""
        batches = iter(loader)
        kept = list(_first(batches, self.no_curve_images)) if self.no_angles else []
        self.elements = evaluate_orbit(model, chain(kept, batches), self.group)
        self.curve = None
        if self.no_angles:
            self.curve = evaluate_orbit(model, kept, f"C{self.no_angles}", no_images=self.no_curve_images)
        names = ("acc_upright", "acc_unseen", "acc_mean", "acc_worst", "spread", "consistency")
        numbers = {f"orbit/{name}": float(getattr(self.elements, name)) for name in names}
        numbers |= {f"orbit/{name}": value for name, value in self.elements.acc_per_element.items()}
        curve = {} if self.curve is None else {"orbit/curve_mean": self.curve.acc_mean}
        return numbers | curve

    def words(self) -> str:
        """Return the table of the elements."""
        return "" if self.elements is None else self.elements.table()

    def artifacts(self) -> dict[str, Artifact]:
        """Return "orbit.json": the curve, or without one the elements, and the elements under "elements_report"."""
        if self.elements is None:
            return {}
        shown = self.curve or self.elements
        return {"orbit.json": shown.to_dict() | {"elements_report": self.elements.to_dict()}}


def _first(batches: Iterator[Batch], no_images: int | None) -> Iterator[Batch]:
    """Yield batches until they hold `no_images` images."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch.labels)
        if no_images is not None and seen >= no_images:
            return
