"""Equivariance in a test suite: the number, the assertion, and the plugin in a pytest of its own."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from partial_equiv import UserError
from partial_equiv.audit import assert_equivariant, audit, equivariance_error, symmetrised_twin

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "partial_equiv" / "audit" / "plugin.py"


def network(stride=2):
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 4, 3, stride, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return symmetrised_twin(nn.Sequential(*parts))


@pytest.mark.parametrize("group", ["C2", "C4", "D4", "flip_h"])
@pytest.mark.parametrize("size", [8, 9])
def test_the_error_of_the_output_is_that_of_the_audit(group, size):
    x = torch.randn(3, 3, size, size)
    assert equivariance_error(network(), x, group) == audit(network(), x, group).error
    assert equivariance_error(network(), x, "SO2", angles=[0.5]) == audit(network(), x, "SO2", angles=[0.5]).error


def test_an_equivariant_network_passes():
    assert_equivariant(network(), "D4", size=9)
    assert_equivariant(network(), "D4", torch.randn(2, 3, 9, 9))
    assert_equivariant(network(), "D2", size=(7, 9))
    assert_equivariant(network(1), "C4", size=8, dtype=torch.float32, tolerance=1e-4)
    assert_equivariant(nn.Conv2d(5, 4, 1), size=6, channels=5)
    assert_equivariant(network(), size=8, tolerance=10.0)


def test_a_broken_network_fails_and_names_its_layer():
    with pytest.raises(AssertionError) as caught:
        assert_equivariant(network(), "C4", size=8)
    message = str(caught.value)
    first = message.splitlines()[0]
    assert first.startswith("Sequential is not equivariant to C4: error 0.") and "at most 1e-06 allowed" in first
    assert first.endswith("the first to break it: 0 (Conv2d)")
    assert "0 *" in message and "read as" in message


def test_what_only_adds_up_is_shown_as_such():
    """Turns that interpolate have no culprit, and a table all the same."""
    with pytest.raises(AssertionError, match="no single layer") as caught:
        assert_equivariant(network(), "SO2", size=9, angles=[0.5], tolerance=1e-3)
    assert "bilinear" in str(caught.value)


def test_the_noise_is_seeded():
    errors = []
    for seed in (0, 0, 1):
        with pytest.raises(AssertionError) as caught:
            assert_equivariant(network(), size=8, seed=seed)
        errors.append(str(caught.value).splitlines()[0])
    assert errors[0] == errors[1] != errors[2]


def test_mistakes_are_explained():
    with pytest.raises(UserError, match=r"neither x nor size is given: pass x=images"):
        assert_equivariant(network())
    with pytest.raises(UserError, match=r"output has no equivariance error \(nothing is known.*pass reps="):
        equivariance_error(nn.Sequential(nn.Conv2d(3, 7, 1), nn.Flatten(2), nn.Linear(64, 7)), torch.randn(2, 3, 8, 8))
    with pytest.raises(UserError, match="takes x, y"):
        assert_equivariant(Two(), size=8)


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


SUITE = """
import pytest, torch
from torch import nn
from partial_equiv.audit import symmetrised_twin

def network():
    torch.manual_seed(0)
    return symmetrised_twin(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))

@pytest.fixture
def model():
    return network()

@pytest.fixture
def small():
    return network().eval()

@pytest.fixture
def images():
    return torch.randn(2, 3, 9, 9)

@pytest.mark.equivariant(group="C4", size=9)
def test_exact(model):
    model.ran = True

@pytest.mark.equivariant(group="C4", size=8)
def test_broken(model):
    pass

@pytest.mark.equivariant("D4", x="images")
@pytest.mark.equivariant("C2", size=9, model="small")
def test_images_and_names(model, small, images):
    pass

@pytest.mark.equivariant(size=8)
def test_that_fails_itself(model):
    assert False, "its own reason"

@pytest.mark.equivariant(size=8)
def test_without_a_model():
    pass

@pytest.mark.equivariant(size=9)
class TestClass:
    def test_in_a_class(self, model):
        pass

def test_fixture(assert_equivariant):
    assert_equivariant(network(), "D4", size=9)
    with pytest.raises(AssertionError, match="the first to break it: 0"):
        assert_equivariant(network(), "D4", size=8)

def test_unmarked(model):
    pass
"""


def run_pytest(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "partial_equiv.audit.plugin", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    return run_pytest(folder, "-v", "--color=no").stdout


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("test_exact", "PASSED"),
        ("test_broken", "FAILED"),
        ("test_images_and_names", "PASSED"),
        ("test_that_fails_itself", "FAILED"),
        ("test_without_a_model", "FAILED"),
        ("TestClass::test_in_a_class", "PASSED"),
        ("test_fixture", "PASSED"),
        ("test_unmarked", "PASSED"),
    ],
)
def test_marked_tests_pass_and_fail_as_they_should(suite, test, outcome):
    line = next((line for line in suite.splitlines() if line.startswith(f"test_suite.py::{test} ")), suite)
    assert line.split()[1] == outcome, suite


def test_a_failure_says_which_layer_breaks(suite):
    assert "Sequential is not equivariant to C4" in suite and "the first to break it: 0 (Conv2d)" in suite
    assert "its own reason" in suite
    assert "needs the fixture 'model', and test_without_a_model asks for: none; add 'model'" in suite
    assert "partial_equiv/audit/assertion.py" not in suite  # the traceback ends at the test


def test_the_plugin_imports_nothing_of_the_library_before_it_is_used():
    """Every pytest of every user of the library loads it: torch alone would cost a second or two."""
    tree = ast.parse(PLUGIN.read_text())
    names = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {alias.name for node in names if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in names if isinstance(node, ast.ImportFrom)}
    assert modules == {"collections.abc", "typing", "pytest"}
