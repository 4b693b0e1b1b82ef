"""How well plain k-means sorts images as they are, and turned upright.

Axes: N images, P numbers of an image.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from partial_equiv.datasets import Batch, ImageSet
from partial_equiv.errors import UserError
from partial_equiv.probes.probe import Probe
from partial_equiv.probes.readings import symmetry_net
from partial_equiv.probes.standardised import check_labels, plain_batches, upright
from partial_equiv.symmetry import ClusterScores, score_clusters


class Clusters(Probe):
    """k-means on pixels of the training images: each cluster takes its most frequent training label.

    Labels score and do not cluster. The test images are sorted by the clusters of the training images.

    Args:
        no_clusters: Numbers of clusters to try.
        train: Training images; None where the probe will not be run.
        seed: Of the first centres.
    Raises:
        UserError: fewer than 1 cluster or more than training images, or images without labels.
    Source: Urbano & Romero 2023.
    """

    def __init__(self, *, no_clusters: list[int], train: ImageSet | None, seed: int) -> None:
        if train is not None:
            check_labels(train, "clusters")
        most = float("inf") if train is None else len(train)
        if wrong := [number for number in no_clusters if not 1 <= number <= most]:
            range_ = "1 or more" if train is None else f"1 to {most}, the number of training images"
            raise UserError(f"test.clusters.no_clusters={no_clusters} holds {wrong[0]}: give {range_}")
        self.no_clusters, self.train, self.seed = tuple(no_clusters), train, seed
        self.found: dict[tuple[int, str], ClusterScores] = {}

    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return "clusters/accuracy_raw_10", "clusters/nmi_standardised_10" and so on for every number of clusters."""
        assert self.train is not None, "a dry run runs no probe"
        net = symmetry_net(model, "clusters")
        learned, tested = upright(net, plain_batches(self.train)), upright(net, loader)
        self.found = {}
        for number in self.no_clusters:
            for kind in ("raw", "standardised"):
                points, test_points = flat(getattr(learned, kind)), flat(getattr(tested, kind))
                clusters, test_clusters = sort_into(number, points, test_points, self.seed)
                self.found[number, kind] = score_clusters(clusters, learned.labels, test_clusters, tested.labels)
        return {
            f"clusters/{name}_{kind}_{number}": value
            for (number, kind), scores in self.found.items()
            for name, value in scores._asdict().items()
        }

    def words(self) -> str:
        """Return the table: accuracy and mutual information for every number of clusters."""
        if not self.found:
            return ""
        lines = ["clusters  accuracy raw  standardised  NMI raw  standardised"]
        for number in dict.fromkeys(self.no_clusters):
            raw, turned = self.found[number, "raw"], self.found[number, "standardised"]
            lines.append(
                f"{number:>8}  {raw.accuracy:>12.3f}  {turned.accuracy:>12.3f}  {raw.nmi:>7.3f}  {turned.nmi:>12.3f}"
            )
        return "\n".join(lines)


def flat(images: Tensor) -> NDArray[np.float32]:
    """Return pixels in [0, 1] of uint8 images [N, C, Y, X] as points [N, P]."""
    points: NDArray[np.float32] = images.flatten(1).float().div(255).numpy()
    return points


def sort_into(
    no_clusters: int, points: NDArray[np.float32], test_points: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the cluster of every point, by k-means of the first set: the best of ten starts by k-means++.

    Shape:
        points [N, P], test_points [M, P] -> [N], [M].
    """
    from sklearn.cluster import KMeans

    fitted = KMeans(no_clusters, init="k-means++", n_init=10, random_state=seed).fit(points)
    return fitted.labels_, fitted.predict(test_points)
