"""Overlays and EXPERIMENTS.md stay in step, and the default configuration changes only where a diff shows it."""

import contextlib
import re
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from config_reader import read_config
from model_constructor import construct_spec
from partial_equiv import build
from partial_equiv.datasets import expected_info
from partial_equiv.nets import PIXEL_NETS

ROOT = Path(__file__).resolve().parents[1]
OVERLAYS = sorted(
    str(p.relative_to(ROOT / "cfg/experiment").with_suffix("")) for p in (ROOT / "cfg/experiment").rglob("*.yaml")
)
TEXT = (ROOT / "EXPERIMENTS.md").read_text(encoding="utf-8")


def composed(*overrides):
    """Return the configuration that main would run."""
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        return read_config(compose("config", list(overrides)))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_composes_and_builds_and_has_its_row(overlay):
    config = composed(f"+experiment={overlay}")
    facts = {key: value for key, value in config["dataset"].items() if key != "type"}
    info = expected_info(config["dataset"]["type"], facts)
    spec = construct_spec(config, info)
    # Continuous kernels measure themselves when they are made; the others need no numbers to be built.
    with torch.device("meta") if spec["net"]["type"] in PIXEL_NETS else contextlib.nullcontext():
        assert build(spec) is not None
    assert overlay in TEXT, f"EXPERIMENTS.md has no row for {overlay}"


def test_every_overlay_that_the_text_names_exists():
    named = set(re.findall(r"\+experiment=([\w./-]+\w)", TEXT))
    assert named and named <= set(OVERLAYS)


def test_an_overlay_says_how_it_is_run():
    for overlay in OVERLAYS:
        head = (ROOT / f"cfg/experiment/{overlay}.yaml").read_text(encoding="utf-8").splitlines()[:5]
        assert head[0] == "# @package _global_"
        assert any(f"+experiment={overlay} " in line for line in head)


def test_the_default_configuration_is_the_one_on_file(monkeypatch):
    for variable in ("DATA_DIR", "OUTPUT_DIR", "WANDB_DIR"):
        monkeypatch.delenv(variable, raising=False)
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        tree = OmegaConf.to_container(compose("config"), resolve=True)
    on_file = yaml.safe_load((ROOT / "tests/default_config.yaml").read_text(encoding="utf-8"))
    assert tree == on_file, (
        "write the changed default tree to tests/default_config.yaml, so that the change shows as a diff"
    )
