"""The smallest training on digits that has every part, for tests of the command line; each says for how long."""

SMALL = [
    "net.no_hidden=3",
    "net.no_blocks=1",
    "kernel.no_hidden=4",
    "kernel.size=3",
    "base_group.no_samples=4",
    "dataset.size=12",
    "dataset.copies=1",
    "dataset.no_train=96",
    "dataset.no_validation=50",
    "dataset.no_test=50",
    "device=cpu",
]
