"""From `test` of the configuration to how a network is tested: the objective of the test, and probes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import nn

from objective_constructor import construct_objectives
from partial_equiv.datasets import DatasetInfo, ImageSet, ViewSet
from partial_equiv.errors import UserError
from partial_equiv.menu import bind, choose, fill, parameters
from partial_equiv.nets import SplitEncoder, SymmetryNet
from partial_equiv.objectives import Classification, Objective
from partial_equiv.probes import PROBES, Probe
from partial_equiv.sampling import set_hard_gates
from train_choices import bind_train

OPTIONS = Path(__file__).parent / "cfg/dataset"


@dataclass(frozen=True, kw_only=True)
class EvaluationChoices:
    """What `test` in `cfg/config.yaml` holds; see there."""

    no_draws: int
    hard_gates: bool
    probes: list[str]
    orbit: dict  # type: ignore[type-arg]
    audit: dict  # type: ignore[type-arg]
    ood: dict  # type: ignore[type-arg]
    clusters: dict  # type: ignore[type-arg]
    downstream: dict  # type: ignore[type-arg]
    data_symmetry: dict  # type: ignore[type-arg]
    classification: dict  # type: ignore[type-arg]
    rotation: dict  # type: ignore[type-arg]
    color: dict  # type: ignore[type-arg]
    prediction_error: dict  # type: ignore[type-arg]
    retrieval: dict  # type: ignore[type-arg]
    spectrum: dict  # type: ignore[type-arg]


def construct_test(cfg: Mapping[str, Any], model: nn.Module, info: DatasetInfo | None = None) -> Objective:
    """Return the objective that a finished model is tested with: no regularisers, and the choices of `test`.

    Levels are no mean over batches, so that symmetry inference is tested by its reconstructions and by probes. A
    self-supervised objective has parts beside its model: they are fresh, until `load_parts` fills them.

    Raises:
        UserError: an unknown key, a wrong type, or a negative number of draws.
    """
    choices = bind_test(cfg)
    set_hard_gates(model, choices.hard_gates)
    if isinstance(model, SymmetryNet):
        return construct_objectives(bind_train(cfg), model)["autoencoder"]
    if isinstance(model, SplitEncoder):
        return construct_objectives(bind_train(cfg), model, info)["self_supervised"]
    return Classification(model, no_draws=choices.no_draws)


def construct_probes(
    cfg: Mapping[str, Any],
    info: DatasetInfo,
    when: Literal["train", "test"] = "test",
    train: ImageSet | ViewSet | None = None,
    test: ImageSet | ViewSet | None = None,
) -> dict[str, Probe]:
    """Return the probes that `test.probes` or `train.probes` names; the keys of each are those of `test.<name>`.

    Args:
        cfg: The resolved configuration; `test` and `train.probes` are read.
        info: Facts of the data; a probe takes those that it names.
        when: Which list.
        train: The training images, for probes that fit something on them; None where no probe will be run.
        test: The images that are measured, for probes that go through all views of them; None likewise.

    Raises:
        UserError: an unknown name, or any mistake in `test`.
    """
    choices = bind_test(cfg) if when == "test" else bind_train(cfg)
    found: dict[str, Probe] = {}
    known = {"class_names": info.class_names, "laws": info.laws, "train": train, "test": test}
    known |= {"seed": cfg.get("seed"), "latents": info.latents}
    if "data_symmetry" in choices.probes:
        known["dataset_words"] = dataset_words(cfg["dataset"])
    for name in choices.probes:
        make = choose(PROBES, name, f"{when}.probes")
        if info.views and not make.whole:
            fitting = ", ".join(other for other, probe in PROBES.items() if probe.whole)
            raise UserError(
                f"{when}.probes=[{name}] measures networks of single images, and here an example shows "
                f"{len(info.views)} views: give some of {fitting}"
            )
        facts = {key: value for key, value in known.items() if key in parameters(make)}
        found[name] = bind({name: make}, name, cfg["test"].get(name, {}), f"test.{name}", later=tuple(facts))(**facts)
    return found


def dataset_words(chosen: Mapping[str, Any]) -> list[str]:
    """Return the words of the command line that choose a data set: its option, and every key that is not its default.

    What an option file takes from the environment, such as a folder, stays with the environment.
    """
    option = OPTIONS / f"{chosen.get('type')}.yaml"
    defaults = yaml.safe_load(option.read_text(encoding="utf-8")) if option.is_file() else {}
    changed = {
        key: value
        for key, value in chosen.items()
        if key != "type" and defaults.get(key) != value and not str(defaults.get(key)).startswith("${")
    }
    words = [
        f"dataset.{key}={json.dumps(value).replace(chr(34), '').replace(' ', '')}" for key, value in changed.items()
    ]
    return [f"dataset={chosen.get('type')}", *words]


def bind_test(cfg: Mapping[str, Any]) -> EvaluationChoices:
    """Return the checked choices of `test`."""
    choices = fill(EvaluationChoices, cfg["test"], "test")
    if choices.no_draws < 0:
        raise UserError(f"test.no_draws={choices.no_draws} is negative: give 0 (fixed elements) or a number of draws")
    return choices
