"""Peers to compare with: escnn, e2cnn and lightly, where `make oracle` has installed them.

`python -m tests.oracles` says what is there.
"""

import pytest

from partial_equiv.errors import UserError
from partial_equiv.nets import steerable_peers


def load_escnn():
    """Return escnn with its planar groups complete; skip the test where it is absent."""
    return _or_skip(steerable_peers.load_escnn)


def load_e2cnn():
    """Return e2cnn, of which C_n works with numpy 2; skip the test where it is absent."""
    return _or_skip(steerable_peers.load_e2cnn)


def _or_skip(load):
    try:
        return load()
    except UserError as error:
        pytest.skip(str(error))


if __name__ == "__main__":
    for load in (steerable_peers.load_escnn, steerable_peers.load_e2cnn):
        peer = load()
        print(f"{peer.__name__} {getattr(peer, '__version__', '')} imports")
    import lightly.loss  # not at the top: the tests that want it skip where it is absent

    print(f"lightly {lightly.__version__} imports")
