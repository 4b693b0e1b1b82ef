"""What standardised images are worth to a network that knows nothing of turns, and what the invariant part knows.

Axes: N images, C channels, Y X pixels, K classes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from partial_equiv.datasets import Batch, ImageSet, Loader, make_loader
from partial_equiv.errors import UserError
from partial_equiv.probes.probe import Probe
from partial_equiv.probes.readings import symmetry_net
from partial_equiv.probes.standardised import check_labels, plain_batches, upright

LEARNING_RATE = 1e-3
NO_NEIGHBOURS = 5


class Downstream(Probe):
    """Test accuracy of a ResNet-18 trained on images as they are and on standardised ones, and of neighbours in z.

    Both networks start from the same weights, see the same images in the same order, are not augmented, and keep the
    weights of their best epoch on a fifth of the training images, which they do not learn from.

    Args:
        epochs: Of each ResNet; None or 0 trains none and reports the neighbours alone.
        batch_size: Images of a step.
        class_names: Name of each class, in order.
        train: Training images; None where the probe will not be run.
        seed: Of weights, split and order.
    Raises:
        UserError: a number out of range, fewer than 5 training images, or images without labels.
    Source: Urbano & Romero 2023. Differs: the weights of the best epoch, not of the last.
    """

    def __init__(
        self, *, epochs: int | None, batch_size: int, class_names: Sequence[str], train: ImageSet | None, seed: int
    ) -> None:
        if epochs is not None and epochs < 0:
            raise UserError(f"test.downstream.epochs={epochs} is negative: give 1 or more, or null for no ResNet")
        if batch_size < 2:
            raise UserError(f"test.downstream.batch_size={batch_size} is out of range: batch norm needs 2 or more")
        if train is not None:
            check_labels(train, "downstream")
            if len(train) < NO_NEIGHBOURS:
                raise UserError(f"the probe downstream needs 5 training images, got {len(train)}: give more")
        self.epochs, self.batch_size, self.no_classes = epochs, batch_size, len(class_names)
        self.train, self.seed = train, seed

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return the shares recognised, "downstream/resnet_raw", "downstream/resnet_standardised", "downstream/knn"."""
        assert self.train is not None, "a dry run runs no probe"
        net = symmetry_net(model, "downstream")
        learned, tested = upright(net, plain_batches(self.train)), upright(net, loader)
        numbers = {}
        for kind in ("raw", "standardised") if self.epochs else ():
            resnet = self.train_resnet(getattr(learned, kind), learned.labels, net.mean.device, kind)
            numbers[f"downstream/resnet_{kind}"] = accuracy(resnet, pixel_set(getattr(tested, kind), tested.labels))
        return numbers | {"downstream/knn": neighbour_accuracy(learned.z, learned.labels, tested.z, tested.labels)}

    def train_resnet(self, pixels: Tensor, labels: Tensor, device: torch.device, title: str) -> nn.Module:
        """Return a ResNet-18 with the weights of its best epoch, the first of equals.

        Args:
            pixels: uint8 [N, C, Y, X].
            labels: [N].
            device: Where it is trained.
            title: Of the progress bar.
        """
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(self.seed))
        parts = order.tensor_split([len(pixels) // 5])
        held_out, kept = (pixel_set(pixels[part], labels[part]) for part in parts)
        resnet = make_resnet(pixels.shape[1], self.no_classes, self.seed).to(device)
        optimizer = torch.optim.Adam(resnet.parameters(), lr=LEARNING_RATE)
        lone = len(kept) % self.batch_size == 1  # batch norm cannot learn from one image of one pixel
        loader = make_loader(
            kept, batch_size=self.batch_size, shuffle=True, drop_last=lone, seed=self.seed, no_workers=0
        )
        best, weights = -1.0, resnet.state_dict()
        for epoch in tqdm(range(self.epochs or 0), desc=f"ResNet-18, {title}", leave=False, disable=None):
            loader.set_epoch(epoch)
            train_epoch(resnet, loader, optimizer)
            if (reached := accuracy(resnet, held_out)) > best:
                # A state_dict holds references, which the next step would change: hence a copy.
                best, weights = reached, {name: value.clone() for name, value in resnet.state_dict().items()}
        resnet.load_state_dict(weights)
        return resnet


def pixel_set(pixels: Tensor, labels: Tensor) -> ImageSet:
    """Return uint8 images [N, C, Y, X] as a set whose batches hold pixels in [0, 1]."""
    no_channels = pixels.shape[1]
    return ImageSet(pixels, labels, mean=[0.0] * no_channels, std=[1.0] * no_channels)


def make_resnet(in_channels: int, no_classes: int, seed: int) -> nn.Module:
    """Return torchvision's ResNet-18, untrained, for any number of channels; global random state stays as it was."""
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed reaches every device
        resnet: nn.Module = resnet18(weights=None, num_classes=no_classes)
        first = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    resnet.conv1 = first
    return resnet


@torch.enable_grad()
def train_epoch(network: nn.Module, loader: Loader, optimizer: torch.optim.Optimizer) -> None:
    """Go once through a loader with cross entropy; probes are called without gradients, so they are put on."""
    device = next(network.parameters()).device
    network.train()
    for batch in loader:
        optimizer.zero_grad()
        functional.cross_entropy(network(batch.images.to(device)), batch.labels.to(device)).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(network: nn.Module, images: ImageSet) -> float:
    """Return the share of a set that a network recognises, in evaluation mode."""
    device = next(network.parameters()).device
    network.eval()
    right = 0
    for batch in plain_batches(images):
        right += int((network(batch.images.to(device)).argmax(dim=-1).cpu() == batch.labels).sum())
    return right / len(images)


def neighbour_accuracy(z: Tensor, labels: Tensor, test_z: Tensor, test_labels: Tensor) -> float:
    """Return the share of test images whose label most of their 5 nearest training images in z have."""
    from sklearn.neighbors import KNeighborsClassifier

    neighbours = KNeighborsClassifier(n_neighbors=NO_NEIGHBOURS).fit(z.numpy(), labels.numpy())
    return float(neighbours.score(test_z.numpy(), test_labels.numpy()))
