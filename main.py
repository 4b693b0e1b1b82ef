"""Compose, seed, construct, train, test, report: `python main.py key=value ...`, `python main.py -m seed=0,1,2`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from config_errors import CFG, INTERRUPTED, USER_FAULT, JobFailed, complain, explain, remove_empty, run_command_line
from processes import LOST, decided, first_before_others, is_first, lost, rank, start

# Everything heavy is imported inside functions: --help and tab completion should not wait for torch.


@hydra.main(version_base="1.3", config_path=str(CFG), config_name="config")
def main(cfg: DictConfig) -> None:
    """Run one job; a mistake of the user becomes one line on stderr and exit code 2."""
    from partial_equiv.errors import UserError
    from stopping import TIME_IS_OVER, Stopped

    job, output = HydraConfig.get(), Path(HydraConfig.get().runtime.output_dir)
    # Unresolved: what was typed may hold a ${...} of its own.
    typed = [str(override) for override in OmegaConf.to_container(job.overrides.task, resolve=False) or ()]
    try:
        run_job(cfg, output, typed)
    except (UserError, OmegaConfBaseException) as error:
        if cfg.get("debug") is True:
            raise
        complain(str(error) if isinstance(error, UserError) else explain(error, typed))
        remove_empty(output)
        if job.mode == RunMode.MULTIRUN and rank().count == 1:  # several processes may not be in one place any more
            raise JobFailed from error
        sys.exit(USER_FAULT)
    except RuntimeError as error:
        sentence = lost(error, str(cfg.resume or output)) if is_first() else lost(error)
        if sentence is not None:
            if sentence:
                complain(sentence)
            sys.exit(LOST)
        if "DataLoader worker" not in str(error):
            raise
        complain(
            f"a reading process died, give a smaller no_workers if memory ran out: {goes_on(cfg, output)} ({error})"
        )
        sys.exit(USER_FAULT)
    except KeyboardInterrupt:
        if is_first():
            complain(f"interrupted: {goes_on(cfg, output)}")
        sys.exit(INTERRUPTED)
    except Stopped as stopped:
        if is_first():
            sys.stderr.write(f"{stopped}\n")
        number = stopped.code - 128
        if number in (signal.SIGUSR1, signal.SIGUSR2) and callable(signal.getsignal(number)):
            signal.raise_signal(number)  # submitit listens, too, and queues the job again
        if stopped.code == TIME_IS_OVER and job.mode == RunMode.MULTIRUN:  # each job has its own time
            raise JobFailed from stopped
        sys.exit(stopped.code)
    finally:
        remove_empty(output)


def goes_on(cfg: DictConfig, output: Path) -> str:
    """Return what to do about a run that was cut off."""
    if not is_first():
        return "resume=<run folder> goes on from its last checkpoint"
    folder = Path(cfg.resume or output)
    begun = (folder / "config.yaml").is_file()
    return f"python main.py resume={folder} goes on from its last checkpoint" if begun else "nothing was trained"


def run_job(cfg: DictConfig, output: Path, overrides: list[str]) -> None:
    """Do what the configuration says."""
    config, line = decided(lambda: decide(cfg, output, overrides))
    alone = config["dry_run"] or config["do"] != "train" or line
    if alone and not is_first():
        return
    if config["dry_run"]:
        dry_run(config)
    elif config["do"] != "train":
        {"evaluate": evaluate_run, "export": export_run, "report": report_run}[config["do"]](config)
    elif line:
        print(line)
    else:
        train_run(config, Path(config["resume"] or output), overrides, resume=config["resume"] is not None)


def decide(cfg: DictConfig, output: Path, overrides: list[str]) -> list[Any]:
    """Return the configuration, and what to say instead of training where its run is finished already."""
    from config_reader import AUTO, read_config
    from job import finished_run, newest_run

    config = read_config(cfg, overrides)
    if config["resume"] == AUTO:
        config = newest_run(config, output)
    trains = config["do"] == "train" and not config["dry_run"]
    return [config, finished_run(config, output) if trains and config["skip_finished"] else None]


def train_run(config: dict[str, Any], path: Path, typed: list[str], *, resume: bool) -> None:
    """Train, test and report."""
    from checkpointer import Progress
    from dataset_constructor import construct_dataset, construct_loaders
    from evaluation_constructor import construct_probes, construct_test
    from illustrator import draw_figures, joint_figures
    from job import load_parts, load_pretrained, open_folder, prepare, surround, trial
    from model_constructor import construct_model, construct_spec
    from objective_constructor import check_labels, construct_stages
    from partial_equiv.nets import learned_subsets
    from partial_equiv.runs import write_report, write_typed
    from progress import Terminal, closing_line
    from reporter import artifacts, closing, export, summarise, summary_table
    from tester import evaluate, run_probes
    from train_choices import bind_train
    from trainer import train_stages

    terminal, around, device = Terminal(config["verbose"]), surround(config), start(prepare(config))
    with first_before_others():  # who may have to fetch it
        splits = construct_dataset(config)
    loaders = construct_loaders(splits, config, device)
    check_labels(config, splits.info)
    model = construct_model(config, splits.info).to(device)
    load_pretrained(model, config["pretrained"])
    watched = construct_probes(config, splits.info, "train", splits.train, splits.validation)
    stages = trial(construct_stages(config, model, len(loaders.train), watched, splits.info), config)
    probes = construct_probes(config, splits.info, "test", splits.train, splits.test)
    max_steps = around.max_steps
    layers = [subset.name for subset in learned_subsets(model)]
    with open_folder(path, config, resume=resume, typed=typed, layers=layers) as folder:
        if is_first():
            write_typed(path, typed, resume=resume)
        progress, learns = Progress(""), bind_train(config).do
        if learns:
            spec = construct_spec(config, splits.info)
            with around.stop:
                progress = train_stages(stages, loaders, folder, spec, around, resume=resume)
        if not is_first():
            return
        tested = construct_test(config, model, splits.info)
        if learns or config["pretrained"]:
            load_parts(tested, folder.path if learns else Path(config["pretrained"]))
        numbers = evaluate(tested, loaders.test, max_steps) | run_probes(tested, loaders.test, probes, max_steps)
        summary = summarise(config, splits.info, model, progress, numbers)
        draw_figures(folder, tested, splits, loaders.test)
        for name, artifact in (artifacts(config, probes) | joint_figures(numbers)).items():
            folder.artifact(name, artifact)
        export(folder.path, model, splits)
        folder.summary(summary)
        write_report(path)
    terminal.close(closing(probes, summary_table(config, summary, model, path)), closing_line(summary, path))


def evaluate_run(config: dict[str, Any]) -> None:
    """Test a finished run again, with the choices of `test` that were given."""
    from checkpointer import Progress, read_progress
    from dataset_constructor import construct_dataset, construct_loaders
    from evaluation_constructor import construct_probes, construct_test
    from illustrator import joint_figures
    from job import load_parts, prepare
    from partial_equiv.runs import load_model, write_artifact, write_report
    from reporter import artifacts, closing, summarise, summary_table
    from tester import evaluate, run_probes

    path, device = Path(config["run"]), prepare(config)
    model = load_model(path).to(device)
    splits = construct_dataset(config)
    loaders = construct_loaders(splits, config, device)
    probes = construct_probes(config, splits.info, "test", splits.train, splits.test)
    max_steps = 2 if config["debug"] else None
    tested = construct_test(config, model, splits.info)
    load_parts(tested, path)
    numbers = evaluate(tested, loaders.test, max_steps) | run_probes(tested, loaders.test, probes, max_steps)
    found = artifacts(config, probes) | joint_figures(numbers)
    for name, artifact in found.items():
        print(f"wrote {write_artifact(path, name, artifact)}")
    if found:
        print(f"wrote {write_report(path)}")
    summary = summarise(config, splits.info, model, read_progress(path) or Progress(""), numbers)
    print(closing(probes, summary_table(config, summary, model, path)))


def export_run(config: dict[str, Any]) -> None:
    """Write the network of a finished run as plain convolutions, read the files back and compare."""
    from evaluation_constructor import bind_test
    from partial_equiv.runs import write_exports
    from reporter import exported_line

    kinds = ["onnx", "torch"] if config["export"] == "both" else [config["export"]]
    for file in write_exports(Path(config["run"]), kinds, hard_gates=bind_test(config).hard_gates):
        print(exported_line(file))


def report_run(config: dict[str, Any]) -> None:
    """Write the report of a finished run anew."""
    from partial_equiv.runs import write_report

    print(f"wrote {write_report(Path(config['run']))}")


def dry_run(config: dict[str, Any]) -> None:
    """Construct everything but the data, and print the network."""
    from dataset_constructor import construct_info
    from evaluation_constructor import construct_probes
    from job import prepare
    from model_constructor import construct_model
    from objective_constructor import construct_stages
    from reporter import module_table, title_of
    from train_choices import bind_train

    prepare(config)
    info = construct_info(config)
    model = construct_model(config, info)
    watched = construct_probes(config, info, "train")
    stages = construct_stages(config, model, -(-info.no_train // bind_train(config).batch_size), watched, info)
    construct_probes(config, info)
    kind = "pairs" if info.views else "images"
    images = f"{info.no_train:,} training, {info.no_validation:,} validation and {info.no_test:,} test {kind}"
    print(f"{title_of(config)}: {images} {info.in_channels}x{info.size[0]}x{info.size[1]}, {info.no_classes} classes")
    print(f"\n{module_table(model)}")
    for note in (note for stage in stages.values() for note in stage.notes):
        print(f"\n{note}")


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that run_command_line can answer Hydra's errors in one line
    # Jobs that a launcher starts on another machine, or from another folder, import these scripts.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(CFG.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.exit(run_command_line(main))
