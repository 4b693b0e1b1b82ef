"""What an audit found: one row for each layer, a table of them, and the same as plain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("layer", "module", "output", "read as", "adds", "in total", "law", "note")


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """How equivariant one layer is. Errors are the largest over the moves; None where there is no number.

    Args:
        name: Path of the module, "#2" for its second call; "before x" for the code ahead of x; "output".
        kind: "layer", "container" (a module that holds layers), "between" (code outside all modules) or "output".
        module: Class of the module.
        shape: Of what comes out; of a row "between", of what goes in.
        representation: How the group was taken to act on it.
        local: What the layer adds: its error when it is fed exactly g times its input on x.
        cumulative: The error of what it puts out on g x; a layer on sampled elements is compared at its own elements.
        law: The same where all sampled elements move with x; None where nothing is sampled.
        domain: `cumulative` of what lives on sampled elements, and of the output of a network that samples: how partial
            its equivariance is; None elsewhere.
        local_exact: `local` over the moves that interpolate nothing: what makes a culprit.
        max_abs: Largest absolute difference of the cumulative comparison.
        sum_mae: Sum over the moves of the mean absolute difference, for comparison with published figures.
        errors: Sort of error -> move -> value.
        reason: Why numbers are missing.
    """

    name: str
    kind: str
    module: str
    shape: tuple[int, ...]
    representation: str
    local: float | None
    cumulative: float | None
    law: float | None = None
    domain: float | None = None
    local_exact: float | None = None
    max_abs: float | None = None
    sum_mae: float | None = None
    errors: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """Equivariance errors of a network, layer by layer, in the order of the forward pass.

    An error is mean |h(g x) - rho(g) h(x)| / mean |h(x') - h(x)|, with x' the batch rolled by one image: 0 is exact, 1
    as far off as another image.

    Args:
        network: Class of the network.
        group: Name of the group.
        moves: Its elements but the identity, in words.
        shape: Of the images.
        dtype: In which it was evaluated.
        device: Where.
        seed: Of what is random in a forward pass.
        tolerance: A larger local error makes a culprit.
        interpolation: How images and features are turned by what is no right angle.
        mask: Where they are compared then.
        agreement: Share of images and moves with the same highest logit as on x; None without logits.
        rows: The layers, then the output.
    """

    network: str
    group: str
    moves: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    device: str
    seed: int
    tolerance: float
    interpolation: str
    mask: str
    agreement: float | None
    rows: tuple[LayerError, ...]

    @property
    def culprits(self) -> tuple[LayerError, ...]:
        """Rows that break equivariance by themselves, in order; containers, which only hold them, left out."""
        return tuple(row for row in self.rows if row.kind != "container" and (row.local_exact or 0.0) > self.tolerance)

    @property
    def first_culprit(self) -> LayerError | None:
        """The first row that breaks equivariance by itself."""
        return next(iter(self.culprits), None)

    @property
    def error(self) -> float | None:
        """The largest error of the outputs."""
        return largest(row.cumulative for row in self.rows if row.kind == "output")

    @property
    def caption(self) -> str:
        """What was measured, in one line or two."""
        moves = ", ".join(self.moves) if len(self.moves) <= 8 else f"{len(self.moves)} moves"
        turned = "" if self.mask == "none" else f"; other turns {self.interpolation}, compared in the {self.mask}"
        return (
            f"{self.group} ({moves}) on {'x'.join(map(str, self.shape))}, {self.dtype}{turned}; errors relative to the "
            f"variation between images; seed {self.seed}"
        )

    def table(self, most: int | None = None) -> str:
        """Return the rows as text: what each layer adds, and the total with what it inherits; culprits are starred.

        Args:
            most: Rows to show at most, those before and after the first culprit, and the output.
        """
        laws = any(row.law is not None for row in self.rows)
        columns = [column for column in COLUMNS if laws or column != "law"]
        shown = self._shown(most)
        lines = [columns, *([self._cells(self.rows[i])[column] for column in columns] for i in shown)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        texts = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        rows = [texts[0], "-" * max(map(len, texts))]
        for place, text in enumerate(texts[1:]):
            skipped = shown[place] - (shown[place - 1] if place else -1) - 1
            rows += ([f"... {skipped} more"] if skipped else []) + [text]
        return "\n".join([self.network, *rows, self.verdict, self.caption])

    def _shown(self, most: int | None) -> list[int]:
        places = range(len(self.rows))
        if most is None or len(self.rows) <= most:
            return list(places)
        first = next((i for i in places if self.rows[i] is self.first_culprit), 0)
        start = max(min(first - most // 2, len(self.rows) - most), 0)
        return [i for i in places if start <= i < start + most or self.rows[i].kind == "output"]

    @property
    def verdict(self) -> str:
        """What follows from the rows, in one sentence."""
        error, first = self.error, self.first_culprit
        total = "has no number" if error is None else f"is {error:.2g}"
        if first is None:
            return f"The error of the output {total}; no layer breaks equivariance by itself."
        more = len(self.culprits) - 1
        rest = f" and {more} more" if more else ""
        doubt = f" ({first.reason})" if first.kind == "between" and first.reason else ""
        adds = f"{first.name}{doubt} (adds {first.local_exact:.2g}){rest}"
        return f"The error of the output {total}; the first to break it: {adds}."

    def _cells(self, row: LayerError) -> dict[str, str]:
        star = " *" if row in self.culprits else ""
        return {
            "layer": row.name + star,
            "module": row.module,
            "output": "x".join(map(str, row.shape)),
            "read as": row.representation,
            "adds": number_text(row.local),
            "in total": number_text(row.cumulative),
            "law": number_text(row.law),
            "note": row.reason,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold; an infinite error is the text "inf"."""
        found: dict[str, Any] = _plain(asdict(self))
        first = self.first_culprit
        return found | {
            "error": _plain(self.error),
            "first_culprit": None if first is None else first.name,
            "culprits": [row.name for row in self.culprits],
        }

    def metrics(self, prefix: str = "audit/") -> dict[str, float]:
        """Return the cumulative error of every row that has one, under `prefix` and its name, for a metrics log."""
        return {f"{prefix}{row.name}": row.cumulative for row in self.rows if row.cumulative is not None}

    def figure(self) -> "Figure":
        """Draw the errors of the layers, from the first at the top to the output."""
        from partial_equiv.audit.figures import layer_errors

        return layer_errors(self)


def largest(values: "Sequence[float | None] | Any") -> float | None:
    """Return the largest of the numbers among `values`, None if there are none."""
    return max((value for value in values if value is not None), default=None)


def number_text(value: float | None) -> str:
    """Return an error for a table."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}" if value < 0.01 or value >= 1000 else f"{value:.2g}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "nan"
    return value
