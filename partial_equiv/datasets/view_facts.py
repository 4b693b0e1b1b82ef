"""Facts of a set of views before any file is touched or any picture is drawn."""

from collections.abc import Callable, Mapping
from typing import Any

from partial_equiv.datasets.coil20 import coil_info
from partial_equiv.datasets.digit_turns import digit_turns_info
from partial_equiv.datasets.iebench import iebench_info
from partial_equiv.datasets.info import DatasetInfo
from partial_equiv.datasets.latent_vectors import latent_vectors_info
from partial_equiv.datasets.shapes3d_views import shapes3d_info

VIEW_FACTS: Mapping[str, Callable[..., DatasetInfo]] = {
    "shapes3d": shapes3d_info,
    "latent_vectors": latent_vectors_info,
    "3DIEBench": iebench_info,
    "COIL20": coil_info,
    "digit_turns": digit_turns_info,
}


def view_info(name: str, keywords: Mapping[str, Any]) -> DatasetInfo | None:
    """Return the facts of a set of views, None for a set that is known by its files alone, or for none of views.

    Args:
        name: Name in the menu.
        keywords: All keywords of the data set's function.

    Raises:
        UserError: a value is out of range.
    """
    facts = VIEW_FACTS.get(name)
    return None if facts is None else facts(**keywords)
