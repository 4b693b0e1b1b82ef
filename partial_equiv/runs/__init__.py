"""Runs: folders, logs, checkpoints, W&B, facts of the environment, and figures."""

from partial_equiv.runs.artifacts import write_artifact
from partial_equiv.runs.environment import device_name, environment_facts
from partial_equiv.runs.exports import NetworkFile, write_exports
from partial_equiv.runs.folder import RunFolder, Sink, read_log
from partial_equiv.runs.reading import FinishedRun, open_run, open_splits
from partial_equiv.runs.responses import rotation_probabilities, turned_copies
from partial_equiv.runs.standardised import write_standardised
from partial_equiv.runs.state import load_model, load_network, load_state, save_state
from partial_equiv.runs.wandb_sink import make_wandb_sink

__all__ = [
    "FinishedRun",
    "NetworkFile",
    "RunFolder",
    "Sink",
    "device_name",
    "environment_facts",
    "load_model",
    "load_network",
    "load_state",
    "make_wandb_sink",
    "open_run",
    "open_splits",
    "read_log",
    "rotation_probabilities",
    "save_state",
    "turned_copies",
    "write_artifact",
    "write_exports",
    "write_standardised",
]
