"""The historical pattern: how curves of a segment grew from age to age, and a credible level.

Every ratio is a ratio of sums over users, so zeros are data; segments shrink to their parent by
credibility. With one segment and kappa = 0 the pattern is the chain ladder. `Pattern` is the
forecaster, which fits; `FittedPattern` is what it fits.

Shapes: N cohorts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Protocol, Self, runtime_checkable

import numpy as np

from ltvnet.data.curves import NODES, Curves
from ltvnet.data.segments import Segments
from ltvnet.forecasting.forecast import Forecast, ForecastParts
from ltvnet.forecasting.forecaster import Predictor, State, StateArrays, StateValues
from ltvnet.forecasting.model_spec import Config
from ltvnet.forecasting.typed_config import SettingError, settings_from
from ltvnet.models.pattern.date_effects import DateEffects
from ltvnet.models.pattern.development import Triangle
from ltvnet.models.pattern.fitted_pattern import FittedPattern
from ltvnet.models.pattern.kappa_selection import (
    KAPPA_AGES,
    fit_kappas,
    kappa_replay_days,
    replay_kappa_errors,
)
from ltvnet.models.pattern.pattern_config import PatternConfig
from ltvnet.models.pattern.segment_curves import estimate_segment_curves


@runtime_checkable
class InterpolatesLikePattern(Protocol):
    """A model whose means grow between nodes as a pattern does."""

    def interpolation_pattern(self) -> FittedPattern | None:
        """Return the pattern whose shape means have between nodes; None where there is none."""
        ...


def shared_interpolation_pattern(models: Sequence[Predictor]) -> FittedPattern | None:
    """Return the pattern that all models, and so their mean, follow between nodes.

    None where they follow none, or different ones.
    """
    patterns = [
        model.interpolation_pattern() if isinstance(model, InterpolatesLikePattern) else None
        for model in models
    ]
    first = patterns[0]
    if first is None:
        return None
    for pattern in patterns:
        if pattern is None or not first.has_same_shapes(pattern):
            return None
    return first


class Pattern(PatternConfig):
    """The historical pattern as a forecaster: a configuration that can be fitted.

    `fit` estimates growth, levels and their credibility as of an origin, which `fitted_pattern`
    holds.
    """

    _fitted: FittedPattern | None = None

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Make the unfitted pattern of a config. Raises ValueError unless it is that of one."""
        if not isinstance(config, Mapping) or config.get("name") != "pattern":
            name = config.get("name") if isinstance(config, Mapping) else config
            raise SettingError("pattern.", f"expected {{place}}name=pattern, got {name!r}")
        arguments = {key: value for key, value in config.items() if key != "name"}
        return settings_from(cls, arguments, "pattern")

    @property
    def config(self) -> PatternConfig:
        """The configuration alone."""
        return PatternConfig(**asdict(self))

    @property
    def is_fitted(self) -> bool:
        """Whether there are estimates to forecast with."""
        return self._fitted is not None

    @property
    def fitted_pattern(self) -> FittedPattern:
        """The estimates of the last fit. Raises ValueError before the first."""
        if self._fitted is None:
            raise ValueError("the pattern was not fitted yet: call fit(curves) first")
        return self._fitted

    def fit(self, curves: Curves) -> Self:
        """Estimate growth and levels as of the origin of `curves`, and learn kappa before it.

        Raises ValueError when no cohort has a complete age.
        """
        self._fitted = self.estimate(curves)
        return self

    def estimate(self, curves: Curves) -> FittedPattern:
        """Return the pattern as of the origin of `curves`, and leave this one as it is.

        Raises ValueError when no cohort has a complete age.
        """
        curves = curves.take(curves.observed_age >= 0)
        if not len(curves):
            raise ValueError(
                f"no cohort has a complete age at {curves.origin}: choose a later as-of date, or "
                "check the dates of the cohorts"
            )

        config = self.config
        segments = Segments.from_curves(curves, config.levels)
        segment = segments.find_deepest(curves)
        date_effects = DateEffects.fit(
            curves, segment, calendar=config.calendar, trend=config.trend
        )
        undated = date_effects.remove_from(curves)

        # Today, and past days from which growth is forecast again to learn kappa.
        days_ago = [0]
        if isinstance(config.kappa, str):
            days_ago += kappa_replay_days(curves)
        triangle = Triangle(undated, segments, segment, config.half_life)
        knowledge_by_day = triangle.past_knowledge(days_ago, config.min_cohorts)
        segment_curves = estimate_segment_curves(config, triangle, knowledge_by_day, days_ago)

        if isinstance(config.kappa, str):
            replays = (
                errors
                for past_curves, past_knowledge in zip(
                    segment_curves[1:], knowledge_by_day[1:], strict=True
                )
                for errors in replay_kappa_errors(past_curves, past_knowledge, undated, segment)
            )
            kappas = fit_kappas(replays)
        else:
            kappas = np.full(len(KAPPA_AGES), float(config.kappa))

        return FittedPattern(
            config=config,
            segment_curves=segment_curves[0],
            date_effects=date_effects,
            kappas=kappas,
            vocabulary={name: sorted(set(text)) for name, text in curves.attributes.items()},
            development=knowledge_by_day[0].sums,
        )

    def predict(self, curves: Curves, ages: Sequence[int] = NODES) -> Forecast:
        """Forecast each cohort at `ages`; quantiles equal the mean until they are calibrated."""
        return self.fitted_pattern.predict(curves, ages)

    def forecast_parts(self, curves: Curves, age: int) -> ForecastParts:
        """Return what the forecast is made of: the segment, the cohort's level, its dates."""
        return self.fitted_pattern.forecast_parts(curves, age)

    def interpolation_pattern(self) -> FittedPattern:
        """Return the pattern in whose shape forecasts grow between nodes, which is its own."""
        return self.fitted_pattern

    def state(self) -> State:
        """Return the configuration and what was estimated, as data."""
        return self.fitted_pattern.state()

    @classmethod
    def from_state(cls, values: StateValues, arrays: StateArrays) -> Self:
        """Restore the pattern that `state()` described; it predicts, and can be fitted again."""
        pattern = cls(**values["arguments"])
        pattern._fitted = FittedPattern.from_state(values, arrays)
        return pattern
