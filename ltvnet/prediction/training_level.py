"""Level of the data that a model was trained with, as the manifest of its bundle keeps it."""

import numpy as np

from ltvnet.data.curves import Curves
from ltvnet.data.levels import LevelSums, level_attribute

LEVEL_ENTRY = "level"
"""Entry of a bundle's manifest that holds the levels of its training data."""


def describe_training_level(curves: Curves) -> dict[str, object]:
    """Return what a manifest says of the level of the curves a model was fitted on.

    Sums by segment and sizes: no cohort stands in it.
    """
    sums = LevelSums.from_curves(curves, level_attribute(curves))
    is_known = curves.users > 0
    users = curves.users[is_known]
    return {
        **sums.record(),
        "cohorts": len(curves),
        "users": float(users.sum()),
        "median_users": float(np.median(users)) if len(users) else None,
        "values_of_attributes": {
            name: len(codes.values) for name, codes in curves.attribute_codes.items()
        },
    }
