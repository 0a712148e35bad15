"""The bar over cohorts: it counts them, and knows of how many where anyone does."""

import numpy as np
import pytest
from factories.cohorts import weekly_history
from rich.progress import Progress, TaskID

from ltvnet.data.curves import Curves
from ltvnet.prediction.pieces import prefetch, show_progress


@pytest.fixture(scope="module")
def pieces() -> list[Curves]:
    curves = weekly_history(70).as_of("2024-03-14")
    return [curves.take(np.arange(first, first + 20)) for first in (0, 20, 40)]


@pytest.mark.parametrize("expected_rows", [60, None])
def test_a_bar_counts_cohorts(
    expected_rows: int | None, pieces: list[Curves], monkeypatch: pytest.MonkeyPatch
) -> None:
    totals: list[float | None] = []
    told: list[str] = []

    def add_task(_: Progress, __: str, *, total: float | None) -> TaskID:
        totals.append(total)
        return TaskID(0)

    def update(_: Progress, __: TaskID, *, completed: int, description: str) -> None:
        told.append(f"{completed}: {description}")

    monkeypatch.setattr(Progress, "add_task", add_task)
    monkeypatch.setattr(Progress, "update", update)
    shown = list(show_progress(prefetch(iter(pieces)), expected_rows))
    assert len(shown) == 3 and all(a is b for a, b in zip(shown, pieces, strict=True))
    assert totals == [expected_rows]
    of_all = "" if expected_rows is None else " of 60"
    assert told == [f"{count}: {count}{of_all} cohorts" for count in (20, 40, 60)]


def test_an_error_of_reading_is_handed_on(pieces: list[Curves]) -> None:
    def fail() -> object:
        yield from pieces
        raise ValueError("line 61")

    with pytest.raises(ValueError, match="line 61"):
        list(show_progress(prefetch(fail()), None))  # type: ignore[arg-type]
