"""Run folders as runs leave them, made of plain files in no time."""

import functools
import json
import math

import yaml
from matplotlib.figure import Figure

from partial_equiv import drawing

NASTY = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'> & \"quotes\""
LAYERS = ("lift", "blocks.0.conv", "blocks.1.conv")
GATED = 1  # the layer that learns a grid of turns
NO_GATES = 4


def row_of(epoch, no_epochs):
    """Return a row of the log of a classifier: a loss that falls, levels that shrink."""
    share = epoch / no_epochs
    return {
        "epoch": epoch,
        "train/loss": 2.3 * math.exp(-4 * share),
        "train/accuracy": 1 - 0.9 * math.exp(-4 * share),
        "validation/loss": 2.3 * math.exp(-3 * share) + 0.1,
        "validation/accuracy": 1 - 0.9 * math.exp(-3 * share),
        "audit/output": 0.5 - 0.25 * share,
        "lr": 0.01 * (1 + math.cos(math.pi * share)) / 2,
        "seconds": 1.5,
        "levels": [1 - 0.75 * share, None, 1 - 0.25 * share],
        "mirror": [None, None, 0.5 - 0.4 * share],
        f"gates/{LAYERS[GATED]}": [1.0, 1 - 0.1 * share, 0.0, 1 - share],
    }


def summary_of(no_epochs, **changes):
    """Return the summary of a classifier; its best epoch is the one before the last."""
    return {
        "test/loss": 0.25,
        "test/accuracy": 0.9375,
        "validation/accuracy": 0.95,
        "validation/loss": 0.2,
        "best_epoch": max(no_epochs - 1, 1),
        "epochs": no_epochs,
        "layers": list(LAYERS),
        "levels": [0.25, None, 0.75],
        "mirror": [None, None, 0.1],
        f"gates/{LAYERS[GATED]}": [1.0, 0.9, 0.0, 0.0],
        "no_params": 12345,
        "seconds": 1.5 * no_epochs,
        "dataset": "digits",
        "note": "scikit-learn's digits",
        "no_train": 900,
        "no_validation": 200,
        "no_test": 160,
        "seed": 3,
        "device": "cpu: x86_64, 1 threads",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "python": "3.11.9",
        "torch": "2.15.0",
        "platform": "Linux",
    } | changes


def config_of(**changes):
    """Return a configuration, keys at its root changed."""
    return {
        "net": {"type": "CKResNet", "no_hidden": 8},
        "conv": {"partial_equiv": True},
        "kernel": {"type": "SIREN"},
        "base_group": {"name": "E2", "no_samples": 8},
        "dataset": {"type": "digits", "rot_interval": 180},
        "train": {"epochs": 5, "lr": 0.01},
        "seed": 3,
        "comment": "",
        "debug": False,
    } | changes


def confusion_of(names=("0", "1", "2")):
    """Return confusion.json of classes that are all right but for two images."""
    counts = [[10 if true == predicted else 0 for predicted in range(len(names))] for true in range(len(names))]
    counts[0][1], counts[2][0] = 3, 1
    worst = [{"index": 7, "true": 0, "predicted": 1, "of_true": 0.001, "of_predicted": 0.98}]
    return {"class_names": list(names), "counts": counts, "worst": worst}


def audit_of():
    """Return audit.json of two layers and the output, the first of which breaks equivariance."""
    base = {"kind": "layer", "module": "Conv2d", "shape": [8, 4, 9, 9], "representation": "regular", "reason": ""}
    rows = [
        base | {"name": "stem", "local": 0.125, "cumulative": 0.125},
        base | {"name": "head", "local": 1e-7, "cumulative": "inf"},
        base | {"name": "output", "kind": "output", "local": None, "cumulative": 0.2},
    ]
    plan = {"verdict": "not exact at 9 x 9: stem breaks"}
    return {"group": "C4", "rows": rows, "error": 0.2, "first_culprit": "stem", "culprits": ["stem"], "plan": plan}


def orbit_of(no_angles=8):
    """Return orbit.json of a network that knows images upright, and turned by little."""
    angles = [2 * math.pi * k / no_angles for k in range(no_angles)]
    return {"angles": angles, "accuracy": [0.5 + 0.4 * math.cos(angle) for angle in angles]}


@functools.cache
def png_of(text):
    """Return a small picture."""
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().set_title(text)
    return drawing.png(figure)


def write_run(path, *, epochs=5, config=None, summary=True, typed=None, figures=(), **files):
    """Write a run folder and return it.

    Args:
        path: The folder.
        epochs: Rows of the log.
        config: The configuration, None for the usual one.
        summary: Changes of the summary; True for none, None for an unfinished run.
        typed: What was typed.
        figures: Names of figures.
        files: Name without ".json" -> content.
    """
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config or config_of(), sort_keys=False))
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(row_of(e + 1, epochs))}\n" for e in range(epochs)))
    if summary is not None:
        changes = {} if summary is True else summary
        (path / "summary.json").write_text(json.dumps(summary_of(epochs, **changes)))
    if typed is not None:
        (path / "overrides.json").write_text(json.dumps({"typed": typed}))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    for name in figures:
        (path / "figures").mkdir(exist_ok=True)
        (path / "figures" / f"{name}.png").write_bytes(png_of(name))
    return path


def write_full_run(path, **changes):
    """Write a run folder that holds every piece a report shows."""
    pieces = {
        "typed": ["train.epochs=5", "seed=3"],
        "figures": ("audit", "confusion_matrix", "curves", "pose_density", "spectrum", "worst_images"),
        "audit": audit_of(),
        "confusion": confusion_of(),
        "orbit": orbit_of(),
    }
    return write_run(path, **(pieces | changes))
