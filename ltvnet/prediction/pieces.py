"""Pieces of cohorts on their way to a model: read ahead by a thread, counted by a bar."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import Progress

from ltvnet.data.curves import Curves

PREFETCH_PIECES = 2
"""Pieces that are read before their turn: some take longer, to read or to forecast, than others."""

SWITCH_SECONDS = 5e-5
"""Seconds after which a thread lets another go on: both mostly wait for numbers, not for turns."""


def prefetch(pieces: Iterator[Curves]) -> Iterator[Curves]:
    """Yield pieces, of which a thread reads the next ones while one is worked on."""
    reader = ThreadPoolExecutor(1)
    usual_interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        waiting = deque(reader.submit(next, pieces, None) for _ in range(PREFETCH_PIECES))
        while (piece := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, pieces, None))
            yield piece
    finally:
        reader.shutdown(cancel_futures=True)
        sys.setswitchinterval(usual_interval)


def show_progress(pieces: Iterable[Curves], expected_rows: int | None) -> Iterator[Curves]:
    """Yield pieces with a bar of the cohorts done, where standard error is a terminal.

    With the time left of `expected_rows` cohorts, about (None: nobody knows how many there are).
    """
    cohorts_done = 0
    console = Console(stderr=True)
    with Progress(disable=not sys.stderr.isatty(), transient=True, console=console) as progress:
        bar = progress.add_task("cohorts", total=expected_rows)
        for curves in pieces:
            yield curves
            cohorts_done += len(curves)
            progress.update(
                bar, completed=cohorts_done, description=describe_count(cohorts_done, expected_rows)
            )


def describe_count(cohorts_done: int, expected_rows: int | None) -> str:
    """Say how many cohorts are done, and of how many, rounded, where that is known.

    >>> describe_count(20_000, 1_000_123), describe_count(20_000, None)
    ('20,000 of 1,000,000 cohorts', '20,000 cohorts')
    """
    if expected_rows is None:
        return f"{cohorts_done:,} cohorts"
    digits = max(len(str(expected_rows)) - 2, 0)
    return f"{cohorts_done:,} of {round(expected_rows, -digits):,} cohorts"
