"""What a job needs before and around its training: seeds, a device, a run folder."""

import importlib.util
import logging
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from objective_constructor import Stage
from partial_equiv.errors import UserError
from partial_equiv.objectives import Objective
from partial_equiv.runs import RunFolder, load_network, load_state, make_wandb_sink
from reporter import title_of


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
        sys.stderr.write(f"note: device={name} is not there, the CPU does it\n")
        name = "cpu"
    if name == "cuda":
        torch.backends.cudnn.benchmark = True  # shapes never change, so the search for algorithms pays
    return torch.device(name)


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


def open_folder(path: Path, config: dict[str, Any], *, resume: bool) -> RunFolder:
    """Return the run folder with its sinks.

    Raises:
        UserError: it holds another run already, or W&B was asked for and is impossible.
    """
    if not resume and (path / "config.yaml").exists():
        raise UserError(f"{path} holds a run already: continue it with resume={path}, or choose another hydra.run.dir")
    mode = config["wandb"]["mode"]
    if config["debug"] and mode == "auto":
        mode = "offline" if importlib.util.find_spec("wandb") else "disabled"
    name = " ".join([title_of(config), f"seed {config['seed']}"])
    sink = make_wandb_sink(mode, config["wandb"]["project"], config, path, name)
    kept = config | {"resume": None}
    return RunFolder(path, kept, [] if sink is None else [sink])
