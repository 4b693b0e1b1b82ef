"""escnn and e2cnn, imported when an encoder asks for them and never before: as published, neither fits numpy 2."""

import importlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import torch

from partial_equiv.errors import UserError

WIGNER = "lie_learn.representations.SO3.wigner_d"


def load_escnn() -> types.ModuleType:
    """Return escnn, its `gspaces` and `nn` imported and its planar groups complete.

    It imports lie_learn, which has no release for numpy 2, for SO(3) and O(3) alone; where lie_learn is not installed,
    these two raise ImportError and the rest works.

    Raises:
        UserError: escnn is not installed, or cannot be imported.
    """
    _stand_in_for_lie_learn()
    escnn = _load("escnn")
    numerical: Any = sys.modules["escnn.group._numerical"]
    if numerical.null.__module__ != __name__:
        numerical.null = _of_array(numerical.null)
    return escnn


def load_e2cnn() -> types.ModuleType:
    """Return e2cnn, its `gspaces` and `nn` imported.

    Raises:
        UserError: e2cnn is not installed, or cannot be imported.
    """
    return _load("e2cnn")


def rotations_of_e2cnn(e2cnn: Any) -> tuple[Any, str]:
    """Return e2cnn's plane under turns, and its group: SO2 where it runs (numpy below 2.3), else C16.

    Between fields of frequency 0 and 1 the filters of both are the same, so networks and their states are as well:
    turns by 360 / n add only frequencies from n - 2, and e2cnn's filters stay far below 14.

    Raises:
        UserError: e2cnn builds convolutions of neither under the installed torch and numpy.
    """
    reason: Exception | None = None
    for group, choices in (("SO2", {"N": -1, "maximum_frequency": 8}), ("C16", {"N": 16})):
        try:
            plane = e2cnn.gspaces.Rot2dOnR2(**choices)
            fields = e2cnn.nn.FieldType(plane, [plane.trivial_repr, plane.irrep(1)])
            hash(e2cnn.nn.R2Conv(fields, fields, 3, recompute=True).basisexpansion)  # as torch does to list modules
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = error
        else:
            return plane, group
    raise UserError(
        f"e2cnn, deprecated by its authors, builds no convolution with torch {torch.__version__} and numpy "
        f"{np.__version__} ({reason}): take its successor, net.encoder=escnn (`make oracle` installs it)"
    ) from reason


def _load(name: str) -> types.ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their sources hold escapes that Python deprecates
        try:
            for module in (f"{name}.gspaces", f"{name}.nn"):
                importlib.import_module(module)
        except (ImportError, OSError) as error:  # OSError: escnn writes a cache beside its sources
            raise UserError(f"{name} cannot be imported ({error}): `make oracle` installs it") from error
    return sys.modules[name]


def _stand_in_for_lie_learn() -> None:
    try:
        importlib.import_module(WIGNER)
    except ImportError:
        names = WIGNER.split(".")
        for depth in range(1, len(names) + 1):
            module = types.ModuleType(".".join(names[:depth]))
            module.__path__ = []
            sys.modules.setdefault(module.__name__, module)
        vars(sys.modules[WIGNER])["wigner_D_matrix"] = _no_spatial_rotations


def _no_spatial_rotations(*_: object, **__: object) -> NoReturn:
    raise ImportError("SO(3) needs lie_learn, which has no release for numpy 2")


def _of_array(null: Callable[..., Any]) -> Callable[..., Any]:
    """Return escnn's null space for arrays: it is handed an np.matrix, which scikit-learn refuses by now."""

    def of_array(matrix: Any, *arguments: Any, **keywords: Any) -> Any:
        return null(np.asarray(matrix), *arguments, **keywords)

    return of_array
