"""When a run is saved, and what it writes down of the steps it left out."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from checkpointer import Progress, save_best, save_last
from objective_constructor import Stage
from partial_equiv.ranks import rank
from partial_equiv.runs import write_artifact

NOT_FINITE = "nonfinite.json"


class Saving(NamedTuple):
    """How often a run is saved beside the end of every epoch, and how much of it is kept.

    Args:
        steps: Batches between two checkpoints; None for none within an epoch.
        minutes: The same in minutes.
        keep: Checkpoints that are kept, the best weights apart.
    """

    steps: int | None = None
    minutes: float | None = None
    keep: int = 2


class Keeper:
    """Saves a run when it is due; of several ranks the first one alone does.

    Args:
        folder: The run folder.
        stage: What is trained.
        spec: Of its network.
        saving: How often.
        clock: Seconds.
    """

    def __init__(
        self,
        folder: Path,
        stage: Stage,
        spec: dict[str, Any],
        saving: Saving,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.stage, self.spec, self.saving, self.clock = folder, stage, spec, saving, clock
        self.taken, self.saved = 0, clock()

    def due(self) -> bool:
        """Count a batch, and say whether a checkpoint is due after it."""
        self.taken += 1
        steps, minutes = self.saving.steps, self.saving.minutes
        return (steps is not None and self.taken >= steps) or (
            minutes is not None and self.clock() - self.saved >= 60 * minutes
        )

    def save(self, progress: Progress) -> None:
        """Write what the next step depends on."""
        if rank() == 0:
            save_last(self.folder, progress, self.stage, self.spec, self.saving.keep)
        self.taken, self.saved = 0, self.clock()

    def save_best(self, progress: Progress) -> None:
        """Write the best weights so far."""
        if rank() == 0:
            save_best(self.folder, progress, self.stage, self.spec)

    def write_down(self, epoch: int, steps: Sequence[int], examples: Callable[[int], list[int]]) -> Path:
        """Add the steps of an epoch that were left out to `nonfinite.json`, each with the places of its examples.

        Args:
            epoch: From 1.
            steps: Of it, from 1.
            examples: Step -> places in the training set.
        """
        path = self.folder / NOT_FINITE
        if rank() > 0:
            return path
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["steps"]
        except (OSError, ValueError, KeyError, TypeError):
            rows = []
        others = [row for row in rows if row.get("epoch", epoch) < epoch]
        mine = [{"epoch": epoch, "step": step, "examples": examples(step - 1)} for step in steps]
        return write_artifact(self.folder, NOT_FINITE, {"steps": [*others, *mine]})
