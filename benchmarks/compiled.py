"""torch.compile on and off: the same training step, eager and compiled, and what the compilation takes."""

from benchmarks.choices import Choices
from benchmarks.jobs import PUBLISHED, Job, make_job
from benchmarks.results import Cell, Table
from benchmarks.timing import interleaved, tell, timed
from partial_equiv import UserError

SHORT: dict[str, tuple[tuple[str, ...], int]] = {"default job with one block": (("net.no_blocks=1",), 64)}
MORE: dict[str, tuple[tuple[str, ...], int]] = {
    "default job (digits, SE2, partial)": ((), 64),
    "default job, gc": (("conv.factorization=gc",), 64),
    "published rotMNIST CKResNet, full": ((PUBLISHED,), 16),
    "published rotMNIST CKResNet, gc": ((PUBLISHED, "conv.factorization=gc"), 16),
}


def measured(label: str, overrides: tuple[str, ...], batch_size: int, choices: Choices) -> tuple[Cell, ...]:
    """Return the row of one job, or the reason why it cannot be compiled."""
    title = f"{label}, B {batch_size}"
    jobs: dict[str, Job] = {}
    try:
        for name in ("off", "on"):
            given = (*overrides, f"compile={name == 'on'}")
            jobs[name] = make_job(*given, batch_size=batch_size, device=choices.device)
        compilation = timed(jobs["on"].step)
    except UserError as error:
        tell(f"compile, {title}: {error}")
        return (title, None, None, None, None, str(error))
    steps = {name: job.step for name, job in jobs.items()}
    rounds = interleaved(steps, no_rounds=choices.no_rounds, title=f"compile, {title}")
    return (
        title,
        rounds.seconds("off").median,
        rounds.seconds("on").median,
        rounds.ratio("on", "off"),
        compilation,
        None,
    )


def tables(choices: Choices) -> list[Table]:
    """Return the table of all jobs."""
    jobs = SHORT | (MORE if choices.full or choices.device == "cuda" else {})
    rows = [
        measured(label, (*overrides, f"train.precision={precision}"), batch_size, choices)
        for label, (overrides, batch_size) in jobs.items()
        for precision in choices.precisions
    ]
    header = ("training step", "eager, s", "compiled, s", "compiled / eager", "first step, s", "why not")
    note = "The first compiled step compiles, its seconds are not in the others; evaluation stays eager."
    return [Table("torch.compile", header, tuple(rows), (note,), "bars")]
