"""What is installed, pinned and shipped says the same everywhere."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import partial_equiv
from partial_equiv.detector import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
INSTALLED_EXTRAS = ("wandb", "sweep", "test", "dev")
PYTHONS = ("3.11", "3.12", "3.13")
IMPORT_NAMES = {"PIL": "pillow", "hydra": "hydra-core", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def requirements(lines):
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


PINS = requirements((ROOT / "constraints.txt").read_text().splitlines())


def pinned(python):
    """Return name -> version for one Python on Linux."""
    platform = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
    }
    chosen = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(platform)]
    names = [canonicalize_name(pin.name) for pin in chosen]
    assert len(names) == len(set(names)), f"two pins of one package on Python {python}"
    return dict(zip(names, (str(pin.specifier).removeprefix("==") for pin in chosen), strict=True))


def test_constraints_are_exact_versions_and_nothing_else():
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text and not re.search(r"^\s*-", text, re.MULTILINE)
    assert [str(pin) for pin in PINS if not re.fullmatch(r"==[\w.]+", str(pin.specifier)) or pin.url] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_within_its_bounds(python):
    pins = pinned(python)
    for requirement in requirements([*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]):
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is pinned to {version}"


def test_conda_lists_the_same_set():
    environment = yaml.safe_load((ROOT / "conda_requirements.yaml").read_text())
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    listed = {canonicalize_name(r.name): str(r.specifier) for r in requirements(p for p in pip if p[0] != "-")}
    direct = [*PROJECT["dependencies"], *(r for extra in INSTALLED_EXTRAS for r in EXTRAS[extra])]
    pins = pinned(python.removeprefix("python="))
    names = [canonicalize_name(requirement.name) for requirement in requirements(direct)]
    assert listed == {name: f"=={pins[name]}" for name in names}
    assert [p for p in pip if p[0] == "-"] == ["--constraint constraints.txt", "--editable ."]


def test_make_installs_the_extras_that_conda_lists():
    makefile = (ROOT / "Makefile").read_text()
    assert f"EXTRAS := {','.join(INSTALLED_EXTRAS)}\n" in makefile
    (peers,) = re.findall(r"^ORACLES := (.*)$", makefile, re.MULTILINE)
    assert f"--no-deps {peers} &&" in (ROOT / "conda_requirements.yaml").read_text()
    (needs,) = re.findall(r"^ORACLE_NEEDS := (.*)$", makefile, re.MULTILINE)
    assert {canonicalize_name(name) for name in needs.split()} <= set(pinned("3.11"))


def test_torch_and_torchvision_are_a_pair():
    pins = pinned("3.11")
    needed = next(r for r in requirements(importlib.metadata.requires("torchvision")) if r.name == "torch")
    assert needed.specifier.contains(importlib.metadata.version("torch"), prereleases=True)
    if importlib.metadata.version("torchvision").split("+")[0] == pins["torchvision"]:
        assert needed.specifier.contains(pins["torch"])


def test_what_the_library_imports_is_declared():
    declared = {canonicalize_name(r.name) for r in requirements(PROJECT["dependencies"])} | {
        "wandb",
        "tensorboard",
        "wandb_workspaces",
        "h5py",
        "onnxruntime",
        "pytest",
    }
    for path in (ROOT / "partial_equiv").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            for top in {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"partial_equiv"}:
                assert IMPORT_NAMES.get(top, top) in declared, f"{path}: {top} is no dependency of pyproject.toml"


def test_the_version_has_its_place_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{partial_equiv.__version__}]" in changelog
    assert "## [Unreleased]" in changelog


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on PATH")
def test_make_explains_itself():
    listed = subprocess.run(["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True)
    targets = set(re.findall(r"^  make (\S+) +\S", listed.stdout, re.MULTILINE))
    assert {"run", "test", "test-long", "check", "bench", "oracle"} <= targets


def test_hooks_call_installed_tools():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {repo["repo"] for repo in hooks} == {"local"}
    entries = [hook["entry"].split()[0] for repo in hooks for hook in repo["hooks"]]
    tools = {r.name for r in requirements(EXTRAS["dev"])} | {"python"}
    assert {Path(entry).name for entry in entries} <= tools


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return a wheel of this checkout."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_library_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    information = f"partial_equiv-{partial_equiv.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"partial_equiv", information}
    library = {name for name in names if name.startswith("partial_equiv/")}
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "partial_equiv").rglob("*.py")}
    page = {f"partial_equiv/runs/report/report.{kind}" for kind in ("css", "js")}
    shipped = {p.relative_to(ROOT).as_posix() for p in SHIPPED.iterdir()}
    assert library == sources | page | shipped | {"partial_equiv/py.typed"}
    assert f"{information}/licenses/LICENSE" in names


USE = """
import sys, torch, partial_equiv
assert partial_equiv.__file__.startswith(sys.argv[1]), partial_equiv.__file__
for name in partial_equiv.__all__:
    getattr(partial_equiv, name)
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"hydra", "omegaconf", "wandb", "matplotlib", "sklearn"}, sorted(loaded)
"""


def run_with(wheel, folder, code):
    """Run code beside an unpacked wheel, away from the checkout, and return the process."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_wheel_works_without_the_checkout(wheel, tmp_path):
    done = run_with(wheel, tmp_path, USE)
    assert done.returncode == 0, done.stderr


DETECT = """
import sys, torch
from partial_equiv.detector import SHIPPED, SymmetryDetector
assert str(SHIPPED).startswith(sys.argv[1]), SHIPPED
assert SymmetryDetector.load().level(torch.rand(2, 1, 28, 28)).shape == (2,)
"""


def test_the_wheel_brings_its_detector(wheel, tmp_path):
    done = run_with(wheel, tmp_path, DETECT)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_pip_installs_the_wheel_into_an_empty_environment(wheel, tmp_path):
    pytest.importorskip("ensurepip", reason="this Python has no ensurepip")
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    names = {line.split("==")[0] for line in listed.stdout.split()}
    assert {canonicalize_name(name) for name in names} - {"pip", "setuptools"} == {"partial-equiv"}
