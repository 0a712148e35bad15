"""The configuration of the historical pattern."""

from dataclasses import dataclass
from typing import Literal

Tail = Literal["flat", "inverse_power"]


@dataclass(frozen=True, kw_only=True)
class PatternConfig:
    """How growth, levels and their credibility are estimated.

    `levels` how many names of the hierarchy to use (None: all). `credibility`,
    `level_credibility` and `kappa`: how much revenue the growth of a segment, the level of a
    segment and the level of a cohort need before they outweigh what stands above them, in units
    of the revenue that a median cohort is expected to earn by D7; `kappa="learned"` chooses it
    per observed age, walking forward. `tilt` whether a segment's growth may fall off faster or more
    slowly at all ages together. `calendar` and `trend` whether dates of revenue and of
    acquisition are told apart: their effect on the past is taken out, their effect on the future
    is put back. `half_life` days in which a step of development halves in weight (None: all weigh
    the same). Ages that fewer than `min_cohorts` cohorts reached are extrapolated by `tail`, "flat"
    or "inverse_power". Raises ValueError for other values.
    """

    levels: int | None
    credibility: float
    level_credibility: float
    kappa: float | Literal["learned"]
    tilt: bool
    calendar: bool
    trend: bool
    half_life: float | None
    min_cohorts: int
    tail: Tail

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.levels is not None and self.levels < 0:
            raise ValueError(f"expected levels >= 0 or null, got {self.levels}")
        for name in ("credibility", "level_credibility"):
            if getattr(self, name) < 0:
                raise ValueError(f"expected {name} >= 0, got {getattr(self, name)}")
        if self.kappa != "learned" and (isinstance(self.kappa, str) or self.kappa < 0):
            raise ValueError(f"expected kappa=learned or a number >= 0, got {self.kappa!r}")
        if self.half_life is not None and self.half_life <= 0:
            raise ValueError(f"expected half_life > 0 days or null, got {self.half_life}")
        if self.min_cohorts < 1:
            raise ValueError(f"expected min_cohorts >= 1, got {self.min_cohorts}")
        if self.tail not in ("flat", "inverse_power"):
            raise ValueError(f"expected tail=flat or tail=inverse_power, got {self.tail!r}")
