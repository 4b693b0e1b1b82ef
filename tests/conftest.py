"""What every test starts from: one thread, one seed, no network, and a home of its own."""

import os
import random
import tempfile
from pathlib import Path

# Before torch, matplotlib and wandb are imported: they read these once.
DATA_DIR = os.environ.pop("DATA_DIR", None)
HOME = tempfile.TemporaryDirectory(prefix="partial_equiv-home-")
for name in ("OUTPUT_DIR", "WANDB_DIR", "WANDB_API_KEY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
    os.environ.pop(name, None)
os.environ.update(HOME=HOME.name, WANDB_MODE="disabled", MPLBACKEND="Agg", OMP_NUM_THREADS="1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)  # sums then have one order, and two tests at once do not fight for cores


@pytest.fixture(autouse=True)
def _seed():
    """Give each test the same global random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data():
    """Return the folder of real image sets: DATA_DIR, or shared/data beside the checkout."""
    folder = Path(DATA_DIR) if DATA_DIR else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real image sets in {folder}: set DATA_DIR to a folder that holds MNIST/raw and npz")
    return folder
