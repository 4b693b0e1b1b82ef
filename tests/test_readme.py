"""What README.md shows works as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from config_reader import read_config
from dataset_constructor import construct_info
from model_constructor import construct_model

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line, comments=True)[2:] for line in re.findall(r"^python main\.py .*$", TEXT, flags=re.M)]


CHECKS = {
    "GroupConv": """
assert features.values.shape == (4, 32, 8, 32, 32) and features.elements.shape == (1, 8, 1)
assert conv.sampler.level.item() == 1
""",
    "SymmetryDetector": """
assert detector.pose(digits).shape == detector.level(digits).shape == (5,) and len(detector.family(digits)) == 5
assert upright.shape == digits.shape
""",
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_library_example_runs(name):
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S) if name in code]
    run = subprocess.run(
        [sys.executable, "-c", code + CHECKS[name]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("overrides", COMMANDS, ids=" ".join)
def test_a_command_composes_and_builds(overrides):
    if any("<" in override for override in overrides):
        pytest.skip("the command names a run folder of the reader's")
    single = [override.split(",")[0] if "[" not in override else override for override in overrides if override != "-m"]
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        config = read_config(compose("config", single), single)
    assert construct_model(config, construct_info(config)) is not None


def test_every_picture_is_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT)
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
