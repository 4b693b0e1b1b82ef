"""What a run says at its end: the summary, and the table on the terminal."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from checkpointer import Progress
from partial_equiv.audit import TrainingLaw
from partial_equiv.convs import ContinuousConv
from partial_equiv.datasets import DatasetInfo, Law, Splits, ViewSplits
from partial_equiv.nets import PIXEL_NETS, PLAIN_NETS, LayerSubset, SymmetryNet, learned_subsets
from partial_equiv.probes import Artifact, Probe, device_of, evaluating
from partial_equiv.runs import (
    NetworkFile,
    device_name,
    environment_facts,
    peak_memory,
    write_standardised,
)
from progress import REPORT

SHOWN = (
    "orbit/acc_upright",
    "orbit/acc_unseen",
    "orbit/spread",
    "orbit/consistency",
    "audit/output",
    "unlearning/tap_difference",
    "levels/class_mean",
    "levels/sample",
    "levels/constant",
    "poses/median_error",
    "families/accuracy",
    "equivariance/pose_30",
    "equivariance/pose_45",
    "equivariance/pose_77",
    "ood/accuracy",
    "ood/auroc",
    "classification/all/linear/top1",
    "rotation/all/deep/quaternion/r2",
    "rotation/inv/deep/quaternion/r2",
    "rotation/equi/deep/quaternion/r2",
    "color/all/deep/r2",
    "color/equi/deep/r2",
    "prediction_error/test/pre",
    "retrieval/test/mrr",
)
"""Numbers of probes that the closing table repeats."""


def no_parameters(model: nn.Module) -> int:
    """Return how many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters())


def module_table(model: nn.Module) -> str:
    """Return the layers of a network that learn something, with their sizes and parameters."""
    rows: list[tuple[str, str, str, str]] = []
    inside: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(prefix) for prefix in inside):
            continue
        whole = isinstance(module, ContinuousConv) or not any(True for _ in module.children())
        count = no_parameters(module) if whole else sum(p.numel() for p in module.parameters(recurse=False))
        if count:
            rows.append((name or "(itself)", type(module).__name__, shape_of(module), f"{count:,}"))
        if whole:
            inside.append(f"{name}.")
    rows.append(("all", type(model).__name__, "", f"{no_parameters(model):,}"))
    return aligned([("layer", "type", "channels", "parameters"), *rows], right=(3,))


def shape_of(module: nn.Module) -> str:
    """Return a layer's width in words."""
    if isinstance(module, ContinuousConv):
        return f"{module.in_channels} -> {module.out_channels}"
    if isinstance(module, nn.Linear):
        return f"{module.in_features} -> {module.out_features}"
    return str(getattr(module, "num_features", getattr(module, "num_channels", "")))


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return rows of text as columns; `right` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def summarise(
    config: Mapping[str, Any], info: DatasetInfo, model: nn.Module, progress: Progress, tested: Mapping[str, float]
) -> dict[str, Any]:
    """Return the flat summary of a run."""
    subsets = learned_subsets(model)
    return {
        **{f"test/{name}": value for name, value in tested.items()},
        f"validation/{progress.monitor}": progress.best_value,
        "validation/loss": progress.best_loss,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "layers": [subset.name for subset in subsets],
        "levels": [subset.level for subset in subsets],
        "mirror": [subset.mirror for subset in subsets],
        **{f"gates/{subset.name}": subset.gates for subset in subsets if subset.gates},
        "no_params": no_parameters(model),
        "seconds": round(progress.seconds, 3),
        "dataset": info.name,
        "note": info.note,
        "no_train": info.no_train,
        "no_validation": info.no_validation,
        "no_test": info.no_test,
        "seed": config["seed"],
        "comment": config["comment"],
        "title": title_of(config),
        "device": device_name(device_of(model)),
        "peak_memory": peak_memory(device_of(model)),
        **environment_facts(),
    }


def artifacts(config: Mapping[str, Any], probes: Mapping[str, Probe]) -> dict[str, Artifact]:
    """Return the files that probes leave, plain data together with what a comparison of runs needs to know."""
    facts = {"label": title_of(config), "seed": config["seed"], "law": law_of(config["dataset"])}
    found = [pair for probe in probes.values() for pair in probe.artifacts().items()]
    return {name: facts | artifact if isinstance(artifact, dict) else artifact for name, artifact in found}


def export(folder: Path, model: nn.Module, splits: Splits | ViewSplits) -> None:
    """Write the data sets that a run makes: after symmetry inference, its images turned upright."""
    if isinstance(model, SymmetryNet):
        with evaluating(model):
            write_standardised(folder, model, splits)


def closing(probes: Mapping[str, Probe], table: str) -> str:
    """Return what a run says at its end: the words of its probes, then its table."""
    return "\n\n".join([words.rstrip() for probe in probes.values() if (words := probe.words())] + [table])


def exported_line(file: NetworkFile) -> str:
    """Return what there is to say of an exported file."""
    agreement = file.agreement
    figures = f"{file.no_bytes:,} bytes, {file.no_parameters:,} parameters, largest difference {file.difference:.2g}"
    errors = f"{agreement.error:.2g} before and {agreement.plain_error:.2g} after"
    return f"{file.path}: {figures}, equivariance error ({agreement.group}) {errors}"


def law_of(dataset: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return by how much training images were turned, as `partial_equiv.audit.TrainingLaw` writes it."""
    if dataset.get("rot_normal"):
        mean, std = map(math.radians, dataset["rot_normal"])
        return TrainingLaw("normal", mean, std).to_dict()
    if dataset.get("law"):
        return one_law(dataset["law"])
    if "rot_interval" not in dataset:
        return TrainingLaw("upright").to_dict()
    width = math.radians(dataset["rot_interval"])
    return (TrainingLaw("uniform", 0.0, width) if width else TrainingLaw("upright")).to_dict()


def one_law(choice: str | Sequence[str]) -> dict[str, Any] | None:
    """Return the law of `dataset.law` for a comparison of runs; None where classes differ or it is cyclic."""
    texts = {choice} if isinstance(choice, str) else set(choice)
    law = Law.parse(next(iter(texts)))
    if len(texts) > 1 or law.kind == "cyclic":
        return None
    kind = {"none": "upright", "full": "uniform"}.get(law.kind, law.kind)
    return (TrainingLaw(kind, 0.0, law.level) if law.level else TrainingLaw(kind)).to_dict()


def title_of(config: Mapping[str, Any]) -> str:
    """Return a run in a few words."""
    net, group = config["net"], config["base_group"]
    data = config["dataset"].get("title") or config["dataset"]["type"]
    if method := config.get("train", {}).get("method"):
        data = f"{method} on {data}"
    if net["type"] in PLAIN_NETS:
        return f"{data} {net['type']} {net['backbone']}"
    factors = [] if config["conv"].get("factorization", "full") == "full" else [config["conv"]["factorization"]]
    if net["type"] in PIXEL_NETS:
        size = config["dataset"].get("size")
        return " ".join([data, net["type"], group["name"], *factors, *([f"{size} pixels"] if size else [])])
    kept = "partial" if config["conv"]["partial_equiv"] else "full"
    words = [data, net["type"], group["name"], f"N={group['no_samples']}"]
    return " ".join([*words, *([kept] if group["no_samples"] > 1 else []), *factors, config["kernel"]["type"]])


def summary_table(config: Mapping[str, Any], summary: Mapping[str, Any], model: nn.Module, path: Path | None) -> str:
    """Return the closing table of a run as text."""
    kind = "pairs" if "method" in config["train"] else "images"
    counted = f"{summary['no_test']:,} {kind}" + (f", {summary['note']}" if summary["note"] else "")
    rows = [
        ("run", f"{title_of(config)}, seed {config['seed']}"),
        *tested_rows(summary, counted),
    ]
    if summary.get("validation/accuracy") is not None:
        when = f"best of {summary['epochs']} epochs: {summary['best_epoch']}"
        rows.append(("validation accuracy", f"{100 * summary['validation/accuracy']:.2f} %  ({when})"))
    rows += [
        ("parameters", f"{summary['no_params']:,}"),
        ("training time", f"{summary['seconds']:.1f} s on {summary['device']}"),
    ]
    if path is not None:
        rows += [("run folder", str(path)), ("report", str(path / REPORT))]
    rows += [
        (f"test {name.replace('/', ' ')}", f"{summary[f'test/{name}']:.4g}")
        for name in SHOWN
        if f"test/{name}" in summary
    ]
    subsets = learned_subsets(model)
    parts = [aligned(rows)]
    if subsets:
        kept = [(subset.name, rotations_kept(subset), mirror_kept(subset)) for subset in subsets]
        parts.append(aligned([("layer", "rotations kept", "mirror probability"), *kept]))
    elif "test/accuracy" in summary:
        parts.append("this network learns no subset of its group")
    return "\n\n".join(parts)


def tested_rows(summary: Mapping[str, Any], counted: str) -> list[tuple[str, str]]:
    """Return what the test objective measured: accuracy and loss of a classifier, every mean of another objective."""
    if "test/accuracy" in summary:
        accuracy = ("test accuracy", f"{100 * summary['test/accuracy']:.2f} %  ({counted})")
        return [accuracy, ("test loss", f"{summary['test/loss']:.4f}")]
    names = [key for key in summary if key.startswith("test/") and key.count("/") == 1]
    return [("test data", counted), *((key.replace("/", " "), f"{summary[key]:.4f}") for key in names)]


def rotations_kept(subset: LayerSubset) -> str:
    """Return the rotations that a layer keeps, in degrees."""
    if subset.gates:
        step = 360 / len(subset.gates)
        near = [((i * step + 180) % 360 - 180, gate) for i, gate in enumerate(subset.gates)]
        return " ".join(f"{angle:g}:{gate:.2f}" for angle, gate in sorted(near))
    return "all" if subset.level is None else f"+-{180 * subset.level:.1f} degrees"


def mirror_kept(subset: LayerSubset) -> str:
    """Return the probability of the mirrored elements."""
    return "-" if subset.mirror is None else f"{subset.mirror:.2f}"
