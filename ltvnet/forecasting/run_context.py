"""Where and with which seed models are fitted: all that a model spec does not say."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

from ltvnet.forecasting.typed_config import check_value

LARGEST_SEED = 2**32 - 1
"""Largest seed that all libraries take which draw random numbers."""

Accelerator = Literal["cpu", "gpu", "cuda", "mps", "tpu", "auto"]
Strategy = Literal["auto", "ddp"]
Precision = Literal["32-true", "tf32", "bf16-mixed"]


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """The hardware that nets learn on: Lightning's accelerator and devices, and their settings.

    `strategy` "auto", or "ddp" for a process a device, which share each batch; `threads` of each
    process; `log_every` steps between logged losses; `precision` "32-true", "tf32" (matrix
    products of GPUs that have it) or "bf16-mixed" (the net in bfloat16). Raises ValueError for
    other words and numbers.
    """

    accelerator: Accelerator
    devices: int | Literal["auto"]
    strategy: Strategy
    threads: int
    log_every: int
    precision: Precision

    def __post_init__(self) -> None:
        """Check words, and that several devices have the strategy they need."""
        words = (
            ("accelerator", self.accelerator, get_args(Accelerator)),
            ("strategy", self.strategy, get_args(Strategy)),
            ("precision", self.precision, get_args(Precision)),
        )
        for name, value, choices in words:
            if value not in choices:
                raise ValueError(f"expected {name} out of {', '.join(choices)}, got {value!r}")
        if self.devices != "auto" and self.devices != -1 and self.devices < 1:
            raise ValueError(f"expected devices >= 1, or -1 for all of them, got {self.devices}")
        if min(self.threads, self.log_every) < 1:
            raise ValueError(
                f"expected threads and log_every >= 1, got {self.threads} and {self.log_every}"
            )
        if self.strategy == "auto" and self.devices != 1:
            raise ValueError(f"expected trainer=ddp for devices other than 1, got {self.devices!r}")


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that is no whole number from 0 to LARGEST_SEED."""
    check_value(seed, int, "seed")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"expected seed from 0 to {LARGEST_SEED}, got {seed}")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Seed, folder and hardware of a run.

    `folder` holds the checkpoints of nets (None: nothing is written, nothing can be resumed).
    Raises ValueError for a seed that is no whole number from 0 to LARGEST_SEED.
    """

    seed: int
    folder: Path | None
    hardware: HardwareConfig

    def __post_init__(self) -> None:
        """Check the seed."""
        check_seed(self.seed)

    def without_folder(self) -> Self:
        """Return the context of fits that write no checkpoints, such as those of past days."""
        return replace(self, folder=None)

    def for_member(self, name: str) -> Self:
        """Return the context of one model of a mixture, with a folder of its own."""
        folder = None if self.folder is None else self.folder / name / "checkpoints"
        return replace(self, folder=folder)
