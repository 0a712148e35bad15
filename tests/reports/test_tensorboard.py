"""What TensorBoard shows: losses from the events that training wrote, and curves of cohorts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories.records import SUNDAYS, forecast_off_by, two_campaigns

from ltvnet.reports.tensorboard import example_curves_figure, read_epoch_losses


def test_losses_are_read_from_the_events_of_the_inner_fit(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    assert read_epoch_losses(tmp_path, ["neural"]) == {}
    with SummaryWriter(str(tmp_path / "inner")) as writer:
        for epoch in range(3):
            writer.add_scalar("val/loss", 1.0 / (epoch + 1), epoch)
    validation = {"validation": pytest.approx([1.0, 1 / 2, 1 / 3])}
    assert read_epoch_losses(tmp_path, ["neural"]) == {"neural": validation}
    (tmp_path / "checkpoints" / "tide").mkdir(parents=True)
    (tmp_path / "inner").rename(tmp_path / "checkpoints" / "tide" / "inner")
    assert read_epoch_losses(tmp_path, ["lstm", "tide", "trees"]) == {"tide": validation}


@pytest.mark.parametrize("reach", [360, 90])
def test_curves_end_where_the_data_do(reach: int) -> None:
    forecast = forecast_off_by(two_campaigns(), SUNDAYS[1], (1.0, 1.0), 1.0)
    actual = np.ones(forecast.pattern.shape)
    figure = example_curves_figure(replace(forecast, last_supported_age=reach), actual)
    assert len(figure.axes) > 1
    last_days = [max(line.get_xdata(), default=0) for axes in figure.axes for line in axes.lines]
    assert max(last_days) == reach
