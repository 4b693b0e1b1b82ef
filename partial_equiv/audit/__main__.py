"""The audit of one network: `python -m partial_equiv.audit torchvision.models:resnet18 --size 224`.

Prints which layers break exact equivariance at the input size and what repairs it (the plan, without data), and the
error of every layer (the measurement), and writes audit.json, audit.png and audit.html.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from torch import nn

from partial_equiv.audit.dynamic import audit
from partial_equiv.audit.exactness import ExactnessReport, check_exactness
from partial_equiv.audit.pages import audit_page, plan_words, repairs
from partial_equiv.audit.report import AuditReport
from partial_equiv.audit.sources import Input, image_size, load_model, load_weights, read_images, white_noise
from partial_equiv.audit.twin import symmetrised_twin
from partial_equiv.audit.writing import as_json, make_folder, write_whole
from partial_equiv.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report a mistake as any other: one line, exit code 2."""
        raise UserError(f"{message}; --help explains")


def main(argv: Sequence[str] | None = None) -> int:
    """Audit a network and return the exit code: 0, or 2 for a mistake of the user."""
    try:
        choices = _parser().parse_args(argv)
        if choices.no_plan and choices.no_measure:
            raise UserError("--no-plan and --no-measure leave nothing to do: give one of them at most")
        _run(choices)
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m partial_equiv.audit", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="package.module:callable, called without arguments; or a module")
    parser.add_argument(
        "--size", type=int, nargs="+", metavar="PIXELS", help="of the input: one number, or height width"
    )
    parser.add_argument("--group", default="C4", help="C2, C4, D1, D2, D4, C<n>, D<n>, flip_h, flip_w (C4)")
    parser.add_argument("--batch", type=int, default=8, help="images to measure with, 2 or more (8)")
    parser.add_argument("--channels", type=int, default=3, help="of the input, where --images does not say (3)")
    parser.add_argument("--images", type=Path, help="npz file with `images`; without it, seeded white noise")
    parser.add_argument("--weights", type=Path, help="safetensors file with the model's state")
    parser.add_argument(
        "--twin", action="store_true", help="average the weights over the group: only the grid can break"
    )
    parser.add_argument("--no-plan", action="store_true", help="leave the plan out")
    parser.add_argument("--no-measure", action="store_true", help="leave the measurement out")
    parser.add_argument("--seed", type=int, default=0, help="of random weights and of the noise (0)")
    parser.add_argument("--out", type=Path, default=Path("audit"), help="folder of the files (audit)")
    return parser


def _run(choices: argparse.Namespace) -> None:
    model = load_model(choices.model, choices.seed)
    if choices.weights is not None:
        load_weights(model, choices.weights)
    if choices.twin:
        model = symmetrised_twin(model, choices.group)
    given = _images(choices)
    size = (given.images.shape[-2], given.images.shape[-1])
    plan = None if choices.no_plan else _plan(model, size, given.images.shape[1], choices.group)
    measured = None if choices.no_measure else _measure(model, given, choices.group)
    facts = {
        "model": choices.model,
        "size": list(size),
        "channels": given.images.shape[1],
        "group": choices.group,
        "weights": "of the file" if choices.weights else f"as the model makes them (seed {choices.seed})",
        "twin": choices.twin,
        "input": None if measured is None else given.words,
    }
    _write(choices.out, facts, plan, measured)


def _images(choices: argparse.Namespace) -> Input:
    size = image_size(choices.size)
    for name, least in (("batch", 2), ("channels", 1)):
        if getattr(choices, name) < least:
            raise UserError(f"--{name} {getattr(choices, name)} is out of range: give {least} or more")
    if choices.images is not None:
        return read_images(choices.images, choices.batch, size)
    if size is None:
        raise UserError("--size is missing: give the side of the input in pixels, for example --size 224")
    return white_noise(choices.batch, choices.channels, size, choices.seed)


def _plan(model: nn.Module, size: tuple[int, int], in_channels: int, group: str) -> ExactnessReport:
    sys.stderr.write("planning\n")
    return check_exactness(model, size, group, in_channels=in_channels)


def _measure(model: nn.Module, given: Input, group: str) -> AuditReport:
    sys.stderr.write(f"measuring {len(given.images)} images\n")
    begin = time.perf_counter()
    report = audit(model, given.images, group)
    sys.stderr.write(f"measured in {time.perf_counter() - begin:.1f} s\n")
    return report


def _write(out: Path, facts: dict[str, Any], plan: ExactnessReport | None, measured: AuditReport | None) -> None:
    """Print both reports and write the files, once all of them are made."""
    picture = None if measured is None else _png(measured)
    data = {
        **facts,
        "plan": None if plan is None else plan.to_dict(),
        "measured": None if measured is None else measured.to_dict(),
    }
    files = {"audit.json": as_json(data), "audit.html": audit_page(facts, plan, measured, picture).encode()}
    if picture is not None:
        files["audit.png"] = picture
    if plan is not None:
        mended = [f"  {name}: {fixes}" for name, fixes in repairs(plan)]
        lines = [plan.table(), *plan_words(plan)[1:], *(["Repairs:"] if mended else []), *mended]
        sys.stdout.write("\n".join(lines) + "\n\n")
    if measured is not None:
        sys.stdout.write(f"{measured.table()}\n")
    make_folder(out)
    if picture is None:
        (out / "audit.png").unlink(missing_ok=True)  # of an earlier audit: it would belie the page
    for name, content in files.items():
        write_whole(out / name, content)
        sys.stderr.write(f"wrote {out / name}\n")


def _png(measured: AuditReport) -> bytes:
    from partial_equiv.drawing import png

    return png(measured.figure())


if __name__ == "__main__":
    sys.exit(main())
