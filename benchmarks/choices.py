"""What a run of the benchmarks was told."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Device and amount of work; a benchmark takes of it what it can use.

    Args:
        device: "cpu" or "cuda".
        full: The whole table, not what fits in ten minutes.
        no_rounds: Rounds whose median is taken.
        epochs: Of the training to the end; None is the published number.
        overrides: Further choices for the training to the end, such as dataset.no_train=256.
    """

    device: str = "cpu"
    full: bool = False
    no_rounds: int = 7
    epochs: int | None = None
    overrides: tuple[str, ...] = ()

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of `train.precision` that are measured."""
        return ("float32", "bfloat16") if self.device == "cuda" else ("float32",)
