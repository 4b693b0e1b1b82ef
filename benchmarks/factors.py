"""Full against factorised group convolutions, and against what the factors cost where nothing makes their kernels."""

from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks.choices import Choices
from benchmarks.goals import FASTER, PLAIN_EVALUATION
from benchmarks.jobs import PUBLISHED, Job, evaluated, make_job
from benchmarks.plain import PlainCKResNet
from benchmarks.results import Cell, Judged, Table
from benchmarks.timing import Rounds, interleaved
from partial_equiv.export import to_plain

BATCH, SMALL = 64, 8
SHORT = {8: 64, 16: 16}
"""Images of a batch in the short run, by the number of elements: a full step of 16 on 64 images takes ten seconds."""
IDEAL = "gc, fixed weights"


def published(no_samples: int, factorization: str, batch_size: int, device: str, precision: str = "float32") -> Job:
    """Return the published job with so many elements."""
    factors = [] if factorization == "full" else [f"conv.factorization={factorization}"]
    choices = (PUBLISHED, f"base_group.no_samples={no_samples}", f"train.precision={precision}", *factors)
    return make_job(*choices, batch_size=batch_size, device=device)


def plain_step(model: torch.nn.Module, job: Job) -> Callable[[], None]:
    """Return a training step of a plain network on the batch of a job."""
    model.to(job.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(job.device.type, torch.bfloat16, enabled=job.stage.precision == "bfloat16"):
            logits = model(job.batch.images)
        functional.cross_entropy(logits.float(), job.batch.labels).backward()
        optimizer.step()

    return run


def trained(no_samples: int, names: tuple[str, ...], batch_size: int, choices: Choices, precision: str) -> Rounds:
    """Return the rounds of the training steps of these factorisations, and of the fixed twin of gc."""
    jobs = {name: published(no_samples, name, batch_size, choices.device, precision) for name in names}
    steps: dict[str, Callable[[], None]] = {name: job.step for name, job in jobs.items()}
    twin = PlainCKResNet(no_elements=no_samples, factors="gc")
    steps[IDEAL] = plain_step(twin, jobs["gc"])
    return interleaved(steps, no_rounds=choices.no_rounds, title=f"step, N {no_samples}, B {batch_size}, {precision}")


def evaluations(no_samples: int, names: tuple[str, ...], batch_size: int, choices: Choices, precision: str) -> Rounds:
    """Return the rounds of their frozen evaluations."""
    runs: dict[str, Callable[[], object]] = {}
    for name in names:
        job = published(no_samples, name, batch_size, choices.device, precision)
        runs[name] = job.evaluation
    twin = PlainCKResNet(no_elements=no_samples, factors="gc").to(choices.device)
    runs[IDEAL] = evaluated(twin, job.batch.images, precision)
    title = f"evaluation, N {no_samples}, B {batch_size}, {precision}"
    return interleaved(runs, no_rounds=choices.no_rounds, title=title)


def rows_of(no_samples: int, batch_size: int, rounds: Rounds, label: str, goals: bool) -> list[tuple[Cell, ...]]:
    """Return a row for each factorisation: seconds, times faster than full, over the fixed twin."""
    rows: list[tuple[Cell, ...]] = []
    for name in rounds.of:
        faster = rounds.ratio("full", name)
        judged = goals and name == "gc"
        rows.append(
            (
                f"{label}, N {no_samples}, B {batch_size}: {name}",
                rounds.seconds(name).median,
                Judged(faster, FASTER[no_samples]) if judged else faster,
                rounds.ratio(name, IDEAL),
            )
        )
    return rows


def tables(choices: Choices) -> list[Table]:
    """Return the table of steps and evaluations; g, slow and large, has N 8 and few images in the short run."""
    everything, main = ("full", "g", "gc"), ("full", "gc")
    rows: list[tuple[Cell, ...]] = []
    for precision in choices.precisions:
        suffix, goals = ("", True) if precision == "float32" else (f", {precision}", False)
        for no_samples in (8, 16):
            images = BATCH if choices.full else SHORT[no_samples]
            rounds = trained(no_samples, everything if choices.full else main, images, choices, precision)
            rows += rows_of(no_samples, images, rounds, f"training step{suffix}", goals)
            batch_size = BATCH if choices.full else SMALL
            names = everything if choices.full or no_samples == 8 else main
            rounds = evaluations(no_samples, names, batch_size, choices, precision)
            rows += rows_of(no_samples, batch_size, rounds, f"evaluation{suffix}", goals=False)
    header = ("published rotMNIST CKResNet", "seconds", "full takes so many times as long", "over the fixed twin of gc")
    note = (
        "The fixed twin is the same network of plain mixes and depthwise convolutions with free weights, written in "
        "torch.nn without this library: no kernel is made."
    )
    return [Table("Full and factorised group convolutions", header, tuple(rows), (note,), "bars")]


def plain_tables(choices: Choices) -> list[Table]:
    """Return the table of evaluation over the same plain network: of the network itself, and of its export."""
    rows: list[tuple[Cell, ...]] = []
    batch_size = BATCH if choices.full else BATCH // 2
    for factorization in ("full", "gc"):
        for precision in choices.precisions:
            job = published(8, factorization, batch_size, choices.device, precision)
            images = job.batch.images
            runs = {
                "cached": job.evaluation,
                "exported": evaluated(to_plain(job.model, 1, (28, 28)), images, precision),
                "plain": evaluated(
                    PlainCKResNet(no_elements=8, factors=factorization).to(images.device), images, precision
                ),
            }
            title = f"{factorization}, N 8, B {batch_size}" + ("" if precision == "float32" else f", {precision}")
            rounds = interleaved(runs, no_rounds=choices.no_rounds, title=f"evaluation, {title}")
            rows += [
                (f"{title}: {name}", rounds.seconds(name).median, Judged(rounds.ratio(name, "plain"), PLAIN_EVALUATION))
                for name in ("cached", "exported")
            ]
            rows.append((f"{title}: plain", rounds.seconds("plain").median, None))
    header = ("evaluation of the published rotMNIST CKResNet", "seconds", "over the plain network, norms included")
    note = "The plain network has the same convolutions, norms, pools and readout, in torch.nn without this library."
    return [Table("Evaluation over the same plain network", header, tuple(rows), (note,), "bars")]
