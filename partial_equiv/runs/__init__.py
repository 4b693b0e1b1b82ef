"""Runs: folders, logs, checkpoints, W&B, facts of the environment, and figures."""

from partial_equiv.runs.artifacts import write_artifact
from partial_equiv.runs.atomic import make_folder, sweep
from partial_equiv.runs.environment import device_name, environment_facts, peak_memory
from partial_equiv.runs.exports import NetworkFile, write_exports
from partial_equiv.runs.finding import CHANGES_NOTHING, find_runs, is_finished, leaves
from partial_equiv.runs.folder import RunFolder, Sink, read_log
from partial_equiv.runs.manifest import forget
from partial_equiv.runs.naming import RunLabels, label_run
from partial_equiv.runs.plain_yaml import check_plain, read_yaml
from partial_equiv.runs.reading import FinishedRun, open_run, open_splits
from partial_equiv.runs.report import write_report, write_typed
from partial_equiv.runs.responses import rotation_probabilities, turned_copies
from partial_equiv.runs.standardised import write_standardised
from partial_equiv.runs.state import load_model, load_network, load_state, save_state
from partial_equiv.runs.tensorboard_sink import make_tensorboard_sink
from partial_equiv.runs.wandb_sink import make_wandb_sink

__all__ = [
    "CHANGES_NOTHING",
    "FinishedRun",
    "NetworkFile",
    "RunFolder",
    "RunLabels",
    "Sink",
    "check_plain",
    "device_name",
    "environment_facts",
    "find_runs",
    "forget",
    "is_finished",
    "label_run",
    "leaves",
    "load_model",
    "load_network",
    "load_state",
    "make_folder",
    "make_tensorboard_sink",
    "make_wandb_sink",
    "open_run",
    "open_splits",
    "peak_memory",
    "read_log",
    "read_yaml",
    "rotation_probabilities",
    "save_state",
    "sweep",
    "turned_copies",
    "write_artifact",
    "write_exports",
    "write_report",
    "write_standardised",
    "write_typed",
]
