"""A line on what a bundle learned from the past, for the log of predict."""

from collections.abc import Sequence

import numpy as np

from ltvnet.correction.blend import Blend
from ltvnet.correction.corrected import Corrected
from ltvnet.correction.intervals import MIN_ORIGINS_OF_TOTALS
from ltvnet.correction.stages import LearnedStages
from ltvnet.data.arrays import Bools
from ltvnet.forecasting.forecast import AGE_BUCKET_LABELS, AGE_BUCKETS
from ltvnet.prediction.bundle import Bundle


def describe_corrections(bundle: Bundle) -> str:
    """Describe in a line what a bundle learned from the past: blend, corrections, intervals."""
    model = bundle.forecaster
    stages = LearnedStages.neutral()
    names: Sequence[str] = [bundle.model_name]
    if isinstance(model, Corrected):
        stages = model.stages
        names = model.base_names

    weights = [_describe_weights(names, stages.blend, b) for b in range(len(AGE_BUCKETS))]
    clauses = [
        _describe_ages("blended", stages.blend.is_on, weights),
        _describe_ages("corrected", stages.correction.is_on, [""] * len(AGE_BUCKETS)),
    ]
    if len(names) > 1:
        clauses = [f"the mean of {', '.join(names)}", *clauses]

    bounds = "blank, as no past was learned from"
    if stages.has_intervals:
        bounds = "calibrated on the past"
        blank = np.array(AGE_BUCKET_LABELS)[~stages.is_calibrated]
        if len(blank):
            bounds += f", blank at observed ages {', '.join(blank)}"
        if np.isnan(stages.totals.common).all():
            bounds += (
                ", those of sums blank: fewer than "
                f"{MIN_ORIGINS_OF_TOTALS} past days without overlap have come true"
            )
    return f"{'; '.join(clauses)}; P10 and P90 are {bounds}"


def _describe_ages(action: str, is_on: Bools, details: Sequence[str]) -> str:
    """Say at which observed ages an action is on, and how: `is_on` and `details` by bucket."""
    ages = [
        bucket + detail
        for bucket, detail, is_active in zip(AGE_BUCKET_LABELS, details, is_on, strict=True)
        if is_active
    ]
    return f"{action} at observed ages {', '.join(ages)}" if ages else f"nothing {action}"


def _describe_weights(names: Sequence[str], blend: Blend, bucket: int) -> str:
    """List the weights of the models and of the pattern in a bucket, without those of 0."""
    weights = [*blend.weight[bucket], blend.pattern_weight[bucket]]
    shares = [
        f"{name} {100 * weight:.0f} %"
        for name, weight in zip([*names, "pattern"], weights, strict=True)
        if weight > 0
    ]
    return f" ({', '.join(shares)})"
