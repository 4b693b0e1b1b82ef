"""Small SymmetryNets as plain dicts."""

import copy

from tests.nets.specs import SMALL, make_spec

SYMMETRY = {
    **copy.deepcopy(SMALL),
    "net": {
        "type": "SymmetryNet",
        "encoder": "group_conv",
        "widths": [2, 3, 6],
        "no_latent": 8,
        "resolution": 21,
        "decoder_width": 3,
        "head": "latent",
        "head_width": 8,
        "head_output": "bounded",
        "centred": True,
        "family": "auto",
        "norm": "BatchNorm",
    },
    "info": {"in_channels": 1, "no_classes": 3, "size": [20, 20], "mean": [0.2], "std": [0.3]},
}
SYMMETRY["base_group"]["no_samples"] = 16


def symmetry_spec(**changes):
    """Return the spec with dotted keys changed, dots written as two underscores: net__head="encoder"."""
    return make_spec({key.replace("__", "."): value for key, value in changes.items()}, start=SYMMETRY)
