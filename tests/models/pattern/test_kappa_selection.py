"""Kappa is the smallest that is not clearly worse than the best."""

import numpy as np

from ltvnet.models.pattern.kappa_selection import (
    KAPPA_AGES,
    KAPPA_GRID,
    KappaErrors,
    fit_kappas,
)


def test_kappa_is_the_smallest_within_one_standard_error() -> None:
    weeks = np.arange(20).astype("datetime64[D]")
    base = np.full((20, len(KAPPA_GRID)), 5.0)
    clearly = base.copy()
    clearly[:, 4] = 1.0  # kappa = 1 is better in every week
    chosen = fit_kappas(iter([KappaErrors(age, weeks, clearly) for age in range(len(KAPPA_AGES))]))
    np.testing.assert_allclose(chosen, KAPPA_GRID[4])
    noise = np.random.default_rng(0).normal(0, 1, 20)
    within = base.copy()
    within[:, 4] -= 0.01 * (1 + 50 * noise)  # better on average, but far within the noise
    chosen = fit_kappas(iter([KappaErrors(age, weeks, within) for age in range(len(KAPPA_AGES))]))
    np.testing.assert_allclose(chosen, KAPPA_GRID[0])
