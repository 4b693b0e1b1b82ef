"""Every published network over its bare convolutions: training step, evaluation and memory."""

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.bare import evaluate_bare, record, train_bare
from benchmarks.choices import Choices
from benchmarks.goals import MEMORY, STEP
from benchmarks.jobs import PUBLISHED, make_job
from benchmarks.memory import Request, peaks
from benchmarks.results import Cell, Judged, Table
from benchmarks.timing import interleaved

MAIN, MAIN_GC = "CKResNet SE2 partial", "CKResNet SE2 partial, gc"
KINDS = ("step", "bare", "bare, weights resident")


class Network(NamedTuple):
    """Overrides of a run, and images of a batch: short on a CPU (0 leaves it out), whole, and on a GPU."""

    overrides: tuple[str, ...]
    short: int
    whole: int
    published: int

    def batch_size(self, choices: Choices) -> int:
        """Return the images of a batch."""
        return self.published if choices.device == "cuda" else self.whole if choices.full else self.short


GCNN = "+experiment=partial_gcnn/rotMNIST_GCNN_SE2_partial"
GRESNET = "+experiment=using_equivariance/CIFAR10_{}_33"
NETWORKS: Mapping[str, Network] = {
    MAIN: Network((PUBLISHED,), 8, 64, 64),
    MAIN_GC: Network((PUBLISHED, "conv.factorization=gc"), 8, 64, 64),
    "CKResNet E2 partial": Network(("+experiment=partial_gcnn/rotMNIST_CKResNet_E2_partial",), 0, 64, 64),
    "CKResNet T2": Network(("+experiment=partial_gcnn/rotMNIST_CKResNet_T2",), 8, 64, 64),
    "Augerino CKResNet SE2": Network(("+experiment=partial_gcnn/rotMNIST_CKResNet_SE2_augerino",), 0, 64, 64),
    "GCNN SE2 partial": Network((GCNN,), 0, 2, 128),
    "GCNN SE2 partial, gc": Network((GCNN, "conv.factorization=gc"), 2, 2, 128),
    "GConvNet C4": Network(("+experiment=using_equivariance/MNIST_upright_C4_28",), 32, 128, 128),
    "GResNet-44 C4": Network((GRESNET.format("C4"),), 4, 32, 128),
    "GResNet-44 C4, gc": Network((GRESNET.format("C4"), "conv.factorization=gc"), 4, 32, 128),
    "GResNet-44 D4": Network((GRESNET.format("D4"),), 0, 16, 128),
    "LiftingNet C4": Network(("+experiment=using_equivariance/unlearn",), 64, 64, 64),
    "SymmetryNet, autoencoder": Network(("+experiment=symmetry/RotMNIST",), 16, 100, 100),
    "SplitCKResNet, SIE": Network(("train=sie", "net=SplitCKResNet", "conv=full", "dataset=digit_turns"), 16, 64, 256),
    "SplitEncoder ResNet-18, SIE": Network(("+experiment=sie/published",), 0, 16, 256),
}
IN_SHORT_MEMORY = (MAIN, MAIN_GC)


def measured(name: str, network: Network, batch_size: int, choices: Choices, precision: str) -> tuple[Cell, ...]:
    """Return the row of one network."""
    title = f"{name}, B {batch_size}" + ("" if precision == "float32" else f", {precision}")
    overrides = (*network.overrides, f"train.precision={precision}")
    job = make_job(*overrides, batch_size=batch_size, device=choices.device)
    candidates = {"ours": job.step, "bare": train_bare(record(job.loss))}
    train = interleaved(candidates, no_rounds=choices.no_rounds, title=title)
    frozen = {"ours": job.evaluation, "bare": evaluate_bare(record(job.evaluation))}
    evaluate = interleaved(frozen, no_rounds=choices.no_rounds, title=f"{title}, evaluation")
    step = train.ratio("ours", "bare")
    return (
        title,
        train.seconds("bare").median,
        Judged(step, STEP) if name == MAIN and batch_size == network.whole and precision == "float32" else step,
        evaluate.seconds("bare").median,
        evaluate.ratio("ours", "bare"),
    )


def tables(choices: Choices) -> list[Table]:
    """Return the table of times of all networks."""
    header = ("network", "bare, training, s", "step / bare", "bare, evaluation, s", "evaluation / bare")
    rows = [
        measured(name, network, network.batch_size(choices), choices, precision)
        for name, network in NETWORKS.items()
        if network.batch_size(choices)
        for precision in choices.precisions
    ]
    note = (
        "Random images of the published shapes; a step is the trainer's: forward, loss, backward, optimiser. Bare: "
        "every convolution of the pass alone; the step counts norms, pools, heads, losses and the making of kernels "
        "above it."
    )
    return [Table("Networks over their bare convolutions", header, tuple(rows), (note,), "bars")]


def memory_tables(choices: Choices) -> list[Table]:
    """Return the table of the memory of their training steps; those with a number to reach have the published batch."""
    asked = []
    for name in NETWORKS if choices.full else IN_SHORT_MEMORY:
        network = NETWORKS[name]
        size = network.published if name in (MAIN, MAIN_GC) else network.batch_size(choices)
        asked += [(name, precision, size) for precision in choices.precisions]
    requests = [
        Request(kind, (*NETWORKS[name].overrides, f"train.precision={precision}"), size)
        for name, precision, size in asked
        for kind in KINDS
    ]
    found = peaks(requests, choices.device)
    rows: list[tuple[Cell, ...]] = []
    for index, (name, precision, size) in enumerate(asked):
        own, bare, least = found[3 * index : 3 * index + 3]
        judged = name in (MAIN, MAIN_GC) and precision == "float32"
        title = f"{name}, B {size}" + ("" if precision == "float32" else f", {precision}")
        rows.append((title, own, Judged(own / bare, MEMORY) if judged else own / bare, own / least))
    header = ("network", "memory of a step, MiB", "over bare and norms", "the same, their weights apart")
    note = (
        "Peak of a step above what lay there before it. Bare convolutions and norms hold their inputs, their weights "
        "and the gradients of the weights; the last column lets their weights lie there before."
    )
    return [Table("Memory of a training step", header, tuple(rows), (note,), "bars")]
