"""Sums of past days are those of what was known then, and shares earned never fall."""

from dataclasses import replace

import numpy as np
import pytest
from factories.cohorts import weekly_history

from ltvnet.data.curves import AGES
from ltvnet.data.segments import Segments
from ltvnet.models.pattern.development import (
    Triangle,
    cohort_development,
    share_earned,
)


@pytest.mark.parametrize("half_life", [None, 60.0])
def test_what_stood_on_past_days_is_what_curves_of_these_days_show(half_life: float | None) -> None:
    """Sums, reach and first age, each day cut by `as_of`; one segment earned nothing."""
    past = weekly_history(60, ("a", "b", "c"))
    values = np.where((past.attributes["Apps"] == "c")[:, None], 0.0, past.values)
    curves = replace(past, values=values).as_of("2024-01-31")
    curves = curves.take(curves.observed_age >= 0)
    segments = Segments.from_curves(curves, None)
    triangle = Triangle(curves, segments, segments.find_deepest(curves), half_life)
    days_ago = [0, 28, 200]
    for days, known in zip(days_ago, triangle.past_knowledge(days_ago, 5), strict=True):
        past_curves = curves.as_of(curves.origin - np.timedelta64(days, "D"))
        past_curves = past_curves.take(past_curves.observed_age >= 0)
        development = cohort_development(past_curves, past_curves.age_reached_by(5), half_life)
        segment = segments.find_deepest(past_curves)
        assert (
            known.last_supported_age == past_curves.age_reached_by(5)
            and known.first_revenue_age == 0
        )
        assert known.age[: len(past_curves)].tolist() == past_curves.observed_age.tolist()
        assert (known.age[len(past_curves) :] == -1).all()
        for name in ("base", "gain"):
            direct = segments.subtotals(getattr(development, name), segment)
            np.testing.assert_allclose(getattr(known.sums, name), direct, rtol=1e-12)
        assert not known.sums.base[3].any()


def test_the_share_earned_begins_with_the_first_revenue_and_never_falls() -> None:
    """Nothing by day 1, then 1, 2, a refund to 1.5, 3: over the last."""
    daily = np.zeros((1, AGES - 1))
    daily[0, :5] = [7.0, 7.0, 1.0, -0.25, 1.0]
    share = share_earned(daily, 2)[0]
    assert share[:6].tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 2 / 3, 1])
    assert (share[5:] == 1).all() and daily[0, 0] == 7.0
