"""What a job needs before and around its training: seeds, a device, a run folder."""

import importlib.util
import logging
import os
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from checkpointer import names_of, read_progress
from keeper import Saving
from objective_constructor import Stage
from partial_equiv.errors import UserError
from partial_equiv.objectives import Objective
from partial_equiv.runs import (
    CHANGES_NOTHING,
    RunFolder,
    find_runs,
    is_finished,
    label_run,
    load_network,
    load_state,
    make_tensorboard_sink,
    make_wandb_sink,
    sweep,
)
from processes import is_first
from progress import Terminal, skip_line
from reporter import title_of
from stopping import Stop
from train_choices import bind_train
from trainer import Around


def prepare(config: dict[str, Any]) -> torch.device:
    """Seed every library and return the device.

    Raises:
        UserError: GPUs were asked for by numbers that are none.
    """
    visible = config["cuda_visible_devices"]
    if visible is not None:
        numbers = [visible] if isinstance(visible, int) else visible
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, numbers))
    if config.get("compile") and "TORCH_LOGS" not in os.environ:
        torch._logging.set_logs(all=logging.ERROR)  # what the compiler warns of is nothing that a user can change
    random.seed(config["seed"])
    np.random.seed(config["seed"])
    torch.manual_seed(config["seed"])
    return choose_device(config["device"])


def choose_device(name: str) -> torch.device:
    """Return a device: "auto" is the first there is of CUDA, MPS and CPU; the CPU stands in for one that is missing."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    if not there[name]:
        if is_first():
            sys.stderr.write(f"note: device={name} is not there, the CPU does it\n")
        name = "cpu"
    if name == "cuda":
        torch.backends.cudnn.benchmark = True  # shapes never change, so the search for algorithms pays
    return torch.device(name)


def surround(config: dict[str, Any]) -> Around:
    """Return what shows, stops and saves a training; its time begins now."""
    choices = bind_train(config)
    saving = Saving(choices.checkpoint_steps, choices.checkpoint_minutes, choices.keep_checkpoints)
    max_steps = 2 if config["debug"] else None
    return Around(Terminal(config["verbose"] if is_first() else 0), Stop(choices.max_minutes), saving, max_steps)


def newest_run(config: dict[str, Any], output: Path) -> dict[str, Any]:
    """Return the configuration, to go on with the newest run of it that has a whole checkpoint, or from the start.

    Args:
        config: With resume=auto.
        output: Where the run would lie otherwise.
    """
    runs = alike(config, output)
    found = [(run, newest) for run in runs if (newest := last_change(run)) is not None]
    for run, _ in sorted(found, key=lambda pair: pair[1], reverse=True):
        try:
            if read_progress(run) is not None:
                return config | {"resume": str(run)}
        except UserError as error:
            sys.stderr.write(f"note: {error}; an older run is looked for\n")
    return config | {"resume": str(output) if output in runs else None}


def last_change(run: Path) -> float | None:
    """Return when a run was last saved, None if it never was."""
    files = [run / f"{name}.safetensors" for name in names_of(run)]
    return max((file.stat().st_mtime for file in files), default=None)


def finished_run(config: dict[str, Any], output: Path) -> str | None:
    """Return what to say instead of training, None where no run of this configuration is finished."""
    finished = [run for run in alike(config, output) if is_finished(run)]
    return skip_line(finished[-1]) if finished else None


def alike(config: dict[str, Any], output: Path) -> list[Path]:
    """Return the runs of this configuration: the would-be folder itself, and what lies in OUTPUT_DIR or outputs."""
    roots = {output, Path(os.environ.get("OUTPUT_DIR", "outputs"))}
    return [run for root in sorted(roots) for run in find_runs(root, config, CHANGES_NOTHING)]


def load_pretrained(model: nn.Module, run: str | None) -> None:
    """Start a network from the best weights of a run, if one is named.

    Raises:
        UserError: no run of that name, or another architecture.
    """
    if run is not None:
        tensors, _ = load_state(Path(run), "best")
        load_network(model, tensors, Path(run) / "best.safetensors")


def load_parts(objective: Objective, run: Path) -> None:
    """Give an objective that has parts beside its model the best weights of a run.

    Raises:
        UserError: the run has no such weights.
    """
    if len(objective.state_dict()) > len(objective.model.state_dict()):
        tensors, _ = load_state(run, "best")
        load_network(objective, tensors, run / "best.safetensors")


def trial(stages: dict[str, Stage], config: dict[str, Any]) -> dict[str, Stage]:
    """Return the stages, with at most two epochs each in a trial run (debug=True)."""
    if not config["debug"]:
        return stages
    return {name: stage._replace(epochs=min(stage.epochs, 2)) for name, stage in stages.items()}


class Elsewhere:
    """The run folder as all but the first process have it: nothing is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, epoch: int, scalars: Mapping[str, Any]) -> None:
        """Leave it to the first process."""


def open_folder(
    path: Path, config: dict[str, Any], *, resume: bool, typed: Sequence[str] = (), layers: Sequence[str] = ()
) -> AbstractContextManager[RunFolder] | AbstractContextManager[Elsewhere]:
    """Return the run folder with its sinks; in all but the first process, what stands for it.

    Args:
        path: Where.
        config: The resolved configuration.
        resume: Whether a run that lies there goes on.
        typed: The overrides of the command line, which name the run on a dashboard.
        layers: Names of the layers that learn a subset, in order.

    Raises:
        UserError: it holds another run already, or W&B was asked for and is impossible.
    """
    if not is_first():
        return nullcontext(Elsewhere(path))
    if not resume and (path / "config.yaml").exists():
        raise UserError(f"{path} holds a run already: continue it with resume={path}, or choose another hydra.run.dir")
    sweep(path)
    mode, project = config["wandb"]["mode"], config["wandb"]["project"]
    if config["debug"] and mode == "auto":
        mode = "offline" if importlib.util.find_spec("wandb") else "disabled"
    name, group, tags = label_run(title_of(config), config, typed)
    # TensorBoard first: a missing package is told before W&B begins a run.
    sinks = [
        make_tensorboard_sink(config["tensorboard"], config, path, name, layers),
        make_wandb_sink(mode, project, config, path, name, group, tags, layers),
    ]
    return RunFolder(path, config | {"resume": None}, [sink for sink in sinks if sink is not None])
