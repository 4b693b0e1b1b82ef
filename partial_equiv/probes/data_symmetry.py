"""The symmetry of a data set: two-sample tests beside measured levels, and the network that follows from them.

Axes: N images, K classes.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from partial_equiv.datasets import Batch, ImageSet
from partial_equiv.drawing import dataset_symmetry
from partial_equiv.errors import UserError
from partial_equiv.probes.probe import Artifact, Probe
from partial_equiv.probes.readings import collect, symmetry_net
from partial_equiv.probes.standardised import plain_batches
from partial_equiv.symmetry import DataSymmetry, Suggestion, suggest, symmetry_of_data

NEEDED = ("D1", "SO2")
"""Groups that the suggestion judges."""
TAILS = (0.05, 0.95)


class DataReport(Probe):
    """Which symmetries the training images rule out, how far each class turns, and what to train with.

    The tests look at the images alone; the levels are those that the network infers of them, a mean over each class.

    Args:
        class_names: Name of each class.
        train: The training images, the set that is judged; None in a dry run.
        seed: Of the tests.
        dataset_words: Words of the command line that choose the data set, for the suggested command.
        groups: Groups that are tested; D1 and SO2 must be among them.
        no_images: Most images of one test.
    Raises:
        UserError: a group that the suggestion needs is missing.
    """

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        train: ImageSet | None,
        seed: int,
        dataset_words: Sequence[str],
        groups: list[str],
        no_images: int,
    ) -> None:
        if missing := [group for group in NEEDED if group not in groups]:
            raise UserError(
                f"test.data_symmetry.groups={groups} lacks {' and '.join(missing)}: the suggestion needs it"
            )
        self.class_names, self.train, self.seed = tuple(class_names), train, seed
        self.dataset_words, self.groups, self.no_images = tuple(dataset_words), tuple(groups), no_images
        self.report: DataSymmetry | None = None
        self.suggestion: Suggestion | None = None
        self.levels: dict[str, Tensor] = {}

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "data_symmetry/p_<group>" of the whole set, and "data_symmetry/level/<class>" in degrees."""
        net = symmetry_net(model, "data_symmetry")
        assert self.train is not None, "a probe that runs has its data"
        found = collect(net, (batch._replace(images=batch.images.to(net.mean)) for batch in plain_batches(self.train)))
        images = self.train.images[torch.arange(len(self.train))]
        self.report = symmetry_of_data(
            images,
            self.train.labels,
            self.class_names,
            groups=self.groups,
            seed=self.seed,
            no_images=self.no_images,
        )
        of_class = {name: found.reading.level[found.labels == k] for k, name in enumerate(self.class_names)}
        self.levels = {name: levels for name, levels in of_class.items() if len(levels)}
        means = {name: float(levels.mean()) for name, levels in self.levels.items()}
        self.suggestion = suggest(self.report, means.values())
        whole = {test.group: test for test in self.report.tests if test.label is None and test.result is not None}
        numbers = {f"data_symmetry/p_{group}": test.result.p_value for group, test in whole.items() if test.result}
        return numbers | {f"data_symmetry/level/{name}": math.degrees(level) for name, level in means.items()}

    def words(self) -> str:
        """Return the tests, the levels and the suggestion."""
        if self.report is None or self.suggestion is None:
            return ""
        lines = [f"{name:12}  {math.degrees(float(levels.mean())):6.1f}" for name, levels in self.levels.items()]
        return "\n".join(
            [
                self.report.table(),
                "",
                "class         level, degrees",
                *lines,
                "",
                self.suggestion.words(),
                f"suggested: {self.suggestion.command(self.dataset_words)}",
            ]
        )

    def artifacts(self) -> dict[str, Artifact]:
        """Return the report as data, with the suggested overrides, and as a figure."""
        if self.report is None or self.suggestion is None:
            return {}
        p_values: dict[str, dict[str, float]] = {group: {} for group in self.groups}
        for test in self.report.tests:
            name = test.name if test.label is not None or len(self.levels) > 1 else next(iter(self.levels))
            if test.result is not None and name in self.levels:
                p_values[test.group][name] = test.result.p_value
        intervals = {}
        for name, levels in self.levels.items():
            low, high = levels.quantile(torch.tensor(TAILS)).tolist()
            intervals[name] = (float(levels.mean()), float(low), float(high))
        data: dict[str, Any] = self.report.to_dict() | {
            "levels_degrees": {name: math.degrees(level) for name, (level, _, _) in intervals.items()},
            "overrides": self.suggestion.overrides(),
            "command": self.suggestion.command(self.dataset_words),
            "reasons": list(self.suggestion.reasons),
        }
        return {"data_symmetry.json": data, "data_symmetry.png": dataset_symmetry(intervals, p_values)}
