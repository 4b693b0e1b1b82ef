"""Drawing: data in, matplotlib figure out; nothing is read, saved or shown, and no global state is touched."""

from partial_equiv.drawing.layers import kernels_and_activations
from partial_equiv.drawing.orbit import orbit_comparison
from partial_equiv.drawing.results import confusion_matrix, rotation_response, sample_sheet
from partial_equiv.drawing.search import search_history
from partial_equiv.drawing.split import Retrieved, nearest_views, part_bars, predicted_rotation, spectrum
from partial_equiv.drawing.style import pixels, png
from partial_equiv.drawing.subsets import Subset, learned_subsets, subset_bands
from partial_equiv.drawing.symmetry import level_scatter, pose_densities
from partial_equiv.drawing.symmetry_grid import ablation_bars, dataset_symmetry, standardised_grid
from partial_equiv.drawing.training import curves, levels_over_epochs
from partial_equiv.drawing.unlearning import unlearning

__all__ = [
    "Retrieved",
    "Subset",
    "ablation_bars",
    "confusion_matrix",
    "curves",
    "dataset_symmetry",
    "kernels_and_activations",
    "learned_subsets",
    "level_scatter",
    "levels_over_epochs",
    "nearest_views",
    "orbit_comparison",
    "part_bars",
    "pixels",
    "png",
    "pose_densities",
    "predicted_rotation",
    "rotation_response",
    "sample_sheet",
    "search_history",
    "spectrum",
    "standardised_grid",
    "subset_bands",
    "unlearning",
]
