"""The numbers to reach, each said once."""

from benchmarks.results import Goal

LAYER_TRAINING = Goal("full GroupConv, forward and backward, over the bare conv2d of the same shape", 1.10)
LAYER_EVALUATION = Goal("full GroupConv, frozen evaluation, over the bare conv2d of the same shape", 1.05, named=False)
PLAIN_EVALUATION = Goal("evaluation of a cached or exported network over the same plain network, norms included", 1.05)
FASTER = {
    8: Goal("gc over full, training step of the published rotMNIST CKResNet, N 8: times faster", 5, "at least"),
    16: Goal("gc over full, training step of the published rotMNIST CKResNet, N 16: times faster", 8, "at least"),
}
GROWTH = Goal("exponent of the gc training step in N, 8 to 32", 1.5)
PEER_FULL = Goal("our exact C8 group convolution over escnn's R2Conv, equal channels x elements, training", 1.05)
PEER_GC = Goal("our gc group convolution over escnn's R2Conv, equal channels x elements, training", 0.25)
MEMORY = Goal("peak memory of the training step over that of the bare convolutions and norms", 1.2)
TO_THE_END = Goal("rotMNIST trained to the end (300 epochs) on one GPU, bfloat16, gc: minutes", 5)
STEP = Goal("training step of the published rotMNIST CKResNet over its bare convolutions", 1.25, named=False)
