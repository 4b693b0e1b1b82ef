"""Where batches are made: beside their set on the device, or streamed there; a step waits for nothing.

The "meta" device stands for a GPU where there is none: it has no pixels, so nothing can be read back from it or counted
there, and tensors of the host cannot mix with its own.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from partial_equiv.datasets import epoch_table, make_loader
from partial_equiv.datasets import loader as loader_file
from partial_equiv.datasets.augmentation import CropFlip
from partial_equiv.datasets.counter import generator, uniform
from partial_equiv.datasets.epoch_table import EpochTable
from partial_equiv.datasets.recorded_ops import change_contrast, change_hue, change_masked, change_some, take_colour
from tests.datasets.test_unchanged import SETS, batches

META, CPU = torch.device("meta"), torch.device("cpu")
IN_MEMORY = [
    "plain",
    "plain grey",
    "poses",
    "resnet",
    "views",
    "views of numbers",
    "turned",
    "recorded",
    "recorded grey",
]
ON_DISK = ["plain on disk", "resnet on disk", "inception", "turned on disk"]
KEYS = {"batch_size": 8, "shuffle": True, "drop_last": False, "seed": 4, "no_workers": 0}


class Devices(TorchDispatchMode):
    """Notes the devices of all that goes into and comes out of every operation."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, torch.Tensor):
                self.seen.setdefault(leaf.device.type, set()).add(str(func))
        return out


def on_cpu(examples, epoch):
    """Return the batches of an epoch as the CPU makes them."""
    loader = make_loader(examples, **KEYS)
    loader.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_resident_set_makes_its_batches_from_tensors_of_the_device_alone(name):
    examples = SETS[name]()
    loader = make_loader(examples, device=META, **KEYS)
    assert loader.resident is not None and loader.num_workers == 0
    for epoch in (0, 2):
        loader.set_epoch(epoch)
        made = iter(loader)
        first = next(made)  # pays for the epoch: its order, and the numbers of its augmentation
        with Devices() as devices:
            rest = list(made)
        assert set(devices.seen) == {"meta"}, devices.seen
        for batch, expected in zip([first, *rest], on_cpu(examples, epoch), strict=True):
            for ours, theirs in zip(batch, expected, strict=True):
                assert (ours is None) == (theirs is None)
                assert ours is None or (ours.device, ours.shape, ours.dtype) == (META, theirs.shape, theirs.dtype)


@pytest.mark.parametrize("name", [*ON_DISK, "recorded"])
@pytest.mark.parametrize("no_workers", [0, 1])
def test_what_is_streamed_as_bytes_becomes_the_same_batch(name, no_workers, monkeypatch):
    monkeypatch.setattr(loader_file, "UNTOLD_FREE", 0)  # no room for "recorded"
    examples, keys = SETS[name](), KEYS | {"no_workers": no_workers}
    loader = make_loader(examples, device=META, **keys)
    assert loader.streams and loader.resident is None
    assert loader.num_workers == (no_workers if name in ON_DISK else 0)
    for epoch in (0, 2):
        loader.set_epoch(epoch)
        for fetched, expected in zip(DataLoader.__iter__(loader), on_cpu(examples, epoch), strict=True):
            assert fetched.images.dtype == torch.uint8 and fetched.images.device == CPU
            for ours, theirs in zip(examples.finish(fetched, examples.normalise), expected, strict=True):
                assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    for batch, expected in zip(loader, on_cpu(examples, 2), strict=True):
        assert type(batch) is type(expected) and batch.images.dtype == torch.float32
        assert all(tensor is None or tensor.device == META for tensor in batch)


@pytest.mark.parametrize("name", IN_MEMORY)
def test_on_the_cpu_nothing_is_copied(name):
    examples = SETS[name]()
    loader = make_loader(examples, **KEYS | {"no_workers": 2})
    assert loader.dataset is examples and not loader.streams and loader.resident is None
    held = examples.images if name.startswith("recorded") else examples
    moved = examples.to(CPU)
    there = moved.images if name.startswith("recorded") else moved
    assert there.images.data_ptr() == held.images.data_ptr() and there.labels is held.labels
    for epoch in (0, 1):
        moved.set_epoch(epoch), examples.set_epoch(epoch)
        assert all(a is None or torch.equal(a, b) for a, b in zip(moved[range(9)], examples[range(9)], strict=True))


def test_a_set_is_resident_up_to_its_share_of_the_memory(monkeypatch):
    examples = SETS["resnet"]()
    assert examples.no_bytes == 30 * 3 * 12 * 10
    for free, resident in ((4 * examples.no_bytes, True), (4 * examples.no_bytes - 1, False)):
        monkeypatch.setattr(loader_file, "UNTOLD_FREE", free)
        assert (make_loader(examples, device=META, **KEYS).resident is not None) == resident
    assert SETS["plain on disk"]().no_bytes == 0


def test_an_epoch_is_drawn_once_however_many_batches_it_has(monkeypatch):
    drawn = []
    plain = CropFlip.draw
    monkeypatch.setattr(CropFlip, "draw", lambda self, index, epoch: drawn.append(epoch) or plain(self, index, epoch))
    examples = SETS["resnet"]()
    list(batches(examples))
    assert drawn == [0, 3]
    examples.set_epoch(0)  # a resumed run goes back to any epoch
    assert torch.equal(examples[range(30)].images, SETS["resnet"]()[range(30)].images)


@settings(deadline=None, max_examples=20)
@given(no_examples=st.integers(1, 40), at_once=st.integers(1, 50), epoch=st.integers(0, 9))
def test_a_table_gives_what_is_drawn(no_examples, at_once, epoch):
    def draw(index, epoch):
        assert len(index) <= at_once
        return torch.from_numpy(uniform(5, epoch, index.numpy()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epoch_table, "NO_AT_ONCE", at_once)
        table = EpochTable(draw, no_examples, CPU)
        index = torch.arange(no_examples).flip(0)
        assert table(index, epoch).tolist() == uniform(5, epoch, index.numpy()).tolist()
        assert table(index, epoch + 1).tolist() == uniform(5, epoch + 1, index.numpy()).tolist()


@pytest.mark.parametrize("change", [change_hue, change_contrast, take_colour])
def test_a_change_of_some_images_needs_not_count_them(change):
    images = 255 * torch.rand(9, 3, 5, 4, generator=generator(0))
    amounts = () if change is take_colour else (torch.rand(9, 1, 1, 1, generator=generator(1)),)
    for some in (torch.arange(9) % 3 == 0, torch.zeros(9, dtype=torch.bool), torch.ones(9, dtype=torch.bool)):
        counted, masked = images.clone(), images.clone()
        change_some(counted, some, change, *amounts)
        change_masked(masked, some, change, *amounts)
        torch.testing.assert_close(masked, counted, atol=1e-4, rtol=1e-5)
        assert torch.equal(counted[~some], images[~some])
        assert not some.any() or (counted[some] != images[some]).any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(SETS))
def test_a_gpu_makes_the_batches_of_the_cpu_and_waits_for_nothing(name):
    examples, gpu = SETS[name](), torch.device("cuda")
    loader = make_loader(examples, device=gpu, **KEYS)
    assert (loader.resident is None) == (name in ON_DISK) == loader.pin_memory
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        made = iter(loader)
        found = [next(made)]  # pays for the epoch
        torch.cuda.set_sync_debug_mode("error")
        try:
            found += list(made)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        for batch, expected in zip(found, on_cpu(examples, epoch), strict=True):
            for ours, theirs in zip(batch, expected, strict=True):
                assert ours is None or ours.device.type == "cuda"
                if name.startswith("recorded") and ours.dim() == 5:
                    torch.testing.assert_close(ours.cpu(), theirs, atol=1e-3, rtol=1e-4)
                else:
                    assert (ours is None and theirs is None) or torch.equal(ours.cpu(), theirs)
