"""Draw views of solid objects into a file or folder, for use without this library or for other choices.

`python -m partial_equiv.datasets.shapes3d --out views.npz` writes what `dataset=view_npz dataset.root=views.npz` reads;
`--folder <folder>` in its place writes the folders of 3DIEBench, for `dataset=3DIEBench dataset.root=<folder>`.
`dataset=shapes3d` needs neither: it draws its own.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.iebench import write_3diebench
from partial_equiv.datasets.shapes3d_views import Recipe, draw, shapes3d_info, write_packed
from partial_equiv.datasets.view_scene import is_tested
from partial_equiv.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the views, tell where they are, and return the exit code: 0, or 2 for a mistake of the user.

    Args:
        argv: Command line without the program's name; None reads the process's.
    """
    parser = make_parser()
    options = parser.parse_args(argv)
    recipe = Recipe(
        no_objects=options.objects,
        no_views=options.views,
        no_classes=options.classes,
        size=options.size,
        supersampling=options.supersampling,
        rotation=options.rotation,
        test_rotation=None,
        vary_scene=not options.fixed_scene,
        seed=options.seed,
    )
    try:
        shapes3d_info(pairs_per_object=1, **vars(recipe))  # every choice is checked before anything is drawn
        target = folder_of(options.out or options.folder)
        write(recipe, target, in_folders=options.out is None)
    except UserError as error:
        told = str(error).replace("dataset.no_", "--").replace("dataset.", "--")  # by the names of this command
        sys.stderr.write(f"error: {' '.join(told.split())}\n")
        return 2
    sys.stdout.write(f"{target}\n")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; its defaults are those of the data set."""
    parser = argparse.ArgumentParser(prog="python -m partial_equiv.datasets.shapes3d", description=__doc__)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", metavar="FILE.npz", help="file to write; one of that name is replaced")
    target.add_argument("--folder", help="folder to write, new or empty, in the layout of 3DIEBench")
    parser.add_argument("--objects", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--views", type=int, default=50, help="of each object (default: %(default)s)")
    parser.add_argument("--classes", type=int, default=10, help="2 to 10 (default: %(default)s)")
    parser.add_argument("--size", type=int, default=32, help="pixels along a side (default: %(default)s)")
    parser.add_argument("--supersampling", type=int, default=2, help="rays along a side of a pixel (default: 2)")
    parser.add_argument(
        "--rotation",
        type=float,
        nargs=2,
        default=(0.0, 90.0),
        metavar=("LOW", "HIGH"),
        help="least and largest size of each Euler angle, degrees (default: 0 90)",
    )
    parser.add_argument("--fixed-scene", action="store_true", help="one colour of the floor, one light")
    parser.add_argument("--seed", type=int, default=42, help="default: %(default)s")
    return parser


def write(recipe: Recipe, target: Path, *, in_folders: bool) -> None:
    """Draw and write the views.

    Raises:
        UserError: the place cannot be written.
    """
    if in_folders and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} exists and is not an empty folder: give --folder=<new folder>")
    if not in_folders and not target.parent.is_dir():
        raise UserError(f"{target.parent} is no folder: make it, or give --out=<file in a folder that exists>")
    packed = draw(recipe)
    if in_folders:
        tested = is_tested(recipe.no_objects, recipe.no_classes)
        write_3diebench(target, packed.images, packed.latents, packed.labels, tested)
    else:
        write_packed(target, packed)


if __name__ == "__main__":
    sys.exit(main())
