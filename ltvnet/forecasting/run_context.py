"""Where and with which seed models are fitted: all that a model spec does not say."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

Strategy = Literal["auto", "ddp"]
Precision = Literal["32-true", "tf32", "bf16-mixed"]


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """The hardware that nets learn on: Lightning's accelerator and devices, and their settings.

    `strategy` "auto", or "ddp" for a process a device, which share each batch; `threads` of each
    process; `log_every` steps between logged losses; `precision` "32-true", "tf32" (matrix
    products of GPUs that have it) or "bf16-mixed" (the net in bfloat16). Raises ValueError for
    another strategy or precision.
    """

    accelerator: str
    devices: int | str
    strategy: Strategy
    threads: int
    log_every: int
    precision: Precision

    def __post_init__(self) -> None:
        """Check words, and that several devices have the strategy they need."""
        words = (
            ("strategy", self.strategy, get_args(Strategy)),
            ("precision", self.precision, get_args(Precision)),
        )
        for name, value, choices in words:
            if value not in choices:
                raise ValueError(f"expected {name} out of {', '.join(choices)}, got {value!r}")
        if self.strategy == "auto" and self.devices != 1:
            raise ValueError(f"expected trainer=ddp for devices other than 1, got {self.devices!r}")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Seed, folder and hardware of a run.

    `folder` holds the checkpoints of nets (None: nothing is written, nothing can be resumed).
    """

    seed: int
    folder: Path | None
    hardware: HardwareConfig

    def without_folder(self) -> Self:
        """Return the context of fits that write no checkpoints, such as those of past days."""
        return replace(self, folder=None)

    def for_member(self, name: str) -> Self:
        """Return the context of one model of a mixture, with a folder of its own."""
        folder = None if self.folder is None else self.folder / name / "checkpoints"
        return replace(self, folder=folder)
