"""Figures beside their targets."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts" / "benchmarks"))
from targets import Line, machine, run, shown, slope, table  # noqa: E402


def test_a_target_is_met_from_its_own_side() -> None:
    assert Line("rate", 5.0, "rows/s", 5.0, least=True).met is True
    assert Line("rate", 4.9, "rows/s", 5.0, least=True).met is False
    assert Line("ratio", 1.1, target=1.1).met is True
    assert Line("ratio", 1.2, target=1.1).met is False
    assert Line("seconds", 3.0, "s").met is None


def test_lines_stand_in_a_table_under_the_machine() -> None:
    text = table([Line("rate", 123456.7, "rows/s", 1e5, least=True), Line("ratio", 1.234)])
    assert text.startswith(machine())
    assert "| rate | 123,457 rows/s | ≥ 100,000 | yes |" in text
    assert "| ratio | 1.23 |  |  |" in text
    assert shown(0.01234) == "0.0123"


def test_the_slope_of_a_power_is_its_exponent() -> None:
    assert slope([1, 10, 100], [2.0, 2.0 * 10**1.5, 2.0 * 10**3]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="expected seconds of two sizes or more"):
        slope([1], [1.0])


def test_processes_tell_their_own_memory_and_failure() -> None:
    """Not that of this process, which is larger: half a GiB that it fills."""
    held = bytearray(os.urandom(1 << 20) * 1024)
    text, gib = run([sys.executable, "-c", "a = bytearray(b'1') * (1 << 29); print('said')"])
    assert text == "said" and 0.5 < gib < 0.6 and len(held) == 1 << 30
    with pytest.raises(ValueError, match="expected -c to end well, got 3"):
        run([sys.executable, "-c", "raise SystemExit(3)"])
