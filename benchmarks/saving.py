"""What a checkpoint costs: seconds of one, and its share of a minute of training."""

import tempfile
from pathlib import Path

from benchmarks.choices import Choices
from benchmarks.jobs import PUBLISHED, make_job
from benchmarks.results import Cell, Table
from benchmarks.timing import interleaved
from checkpointer import Progress, save_last

EVERY = 60.0  # seconds
JOBS: dict[str, tuple[str, ...]] = {
    "default job": (),
    "published rotMNIST CKResNet": (PUBLISHED,),
    "ResNet-18 with SIE": ("+experiment=sie/published",),
}


def measured(name: str, overrides: tuple[str, ...], choices: Choices, folder: Path) -> tuple[Cell, ...]:
    """Return the row of one job."""
    job = make_job(*overrides, batch_size=2, device=choices.device)
    job.step()  # so that the optimiser has its state
    (folder / name).mkdir()

    def save() -> None:
        save_last(folder / name, Progress(job.stage.name), job.stage, {})

    rounds = interleaved({"checkpoint": save}, no_rounds=choices.no_rounds, title=f"saving, {name}")
    seconds = rounds.seconds("checkpoint")
    no_bytes = sum(path.stat().st_size for path in (folder / name / "checkpoints").glob("*.safetensors"))
    return (name, no_bytes / 2**20, seconds, 100 * seconds.median / EVERY)


def tables(choices: Choices) -> list[Table]:
    """Return the table of all jobs."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(name, overrides, choices, Path(folder)) for name, overrides in JOBS.items()]
    header = ("training", "checkpoint, MiB", "seconds", "% of a minute")
    note = (
        "Everything the next step depends on, optimiser included, written, flushed and recorded in the manifest; the "
        "last column: its share of the time where one is written every minute."
    )
    return [Table("Checkpoints", header, tuple(rows), (note,))]
