"""Raw outputs become log multiples of the pattern's growth."""

import torch

from ltvnet.models.neural.nets.heads import log_multiples


def test_departures_order_quantiles_and_scale_the_mean_only() -> None:
    raw = torch.randn(4, 50, 20, generator=torch.Generator().manual_seed(0))
    z, damped = log_multiples(raw, 1.0), log_multiples(raw, 0.25)
    assert (z[1] < z[2]).all() and (z[2] < z[3]).all()
    torch.testing.assert_close(damped[0], 0.25 * raw[0])
    torch.testing.assert_close(damped[3] - damped[2], z[3] - z[2])
