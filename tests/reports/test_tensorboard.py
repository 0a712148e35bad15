"""Losses are read from the events that training wrote."""

from pathlib import Path

import pytest

from ltvnet.reports.tensorboard import read_epoch_losses


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
