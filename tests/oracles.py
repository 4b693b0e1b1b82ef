"""Peers to compare with: escnn and e2cnn, where `make oracle` has installed them.

`python -m tests.oracles` says what is there.
"""

import importlib
import sys
import types
import warnings

import numpy as np
import pytest

WIGNER = "lie_learn.representations.SO3.wigner_d"


def load_escnn():
    """Return escnn with its planar groups complete; skip the test where it is absent.

    SO(3) and O(3) raise: they need lie_learn, which has no release for numpy 2, and which escnn imports for them alone.
    """
    names = WIGNER.split(".")
    for depth in range(1, len(names) + 1):
        module = types.ModuleType(".".join(names[:depth]))
        module.__path__ = []
        sys.modules.setdefault(module.__name__, module)
    sys.modules[WIGNER].wigner_D_matrix = _no_spatial_rotations
    escnn = _load("escnn")
    numerical = sys.modules["escnn.group._numerical"]
    if numerical.null.__module__ != __name__:
        numerical.null = _of_array(numerical.null)
    return escnn


def load_e2cnn():
    """Return e2cnn, of which C_n works with numpy 2; skip the test where it is absent."""
    return _load("e2cnn")


def _load(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their sources hold escapes that Python deprecates
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name} is not installed ({error}): make oracle")


def _of_array(null):
    """Return escnn's null space for arrays: it is handed an np.matrix, which scikit-learn refuses by now."""

    def of_array(matrix, *arguments, **keywords):
        return null(np.asarray(matrix), *arguments, **keywords)

    return of_array


def _no_spatial_rotations(*arguments, **keywords):
    raise ImportError("SO(3) needs lie_learn, which has no release for numpy 2")


if __name__ == "__main__":
    for load in (load_escnn, load_e2cnn):
        peer = load()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(f"{peer.__name__}.nn")
        print(f"{peer.__name__} {getattr(peer, '__version__', '')} imports")
