"""Figures beside their targets."""

import os
import sys

import pytest
from targets import (  # noqa: E402
    Measurement,
    describe_machine,
    log_log_slope,
    measurement_table,
    run_process,
    three_digits,
)


def test_a_target_is_met_from_its_own_side() -> None:
    assert Measurement("rate", 5.0, "rows/s", 5.0, is_minimum=True).meets_target is True
    assert Measurement("rate", 4.9, "rows/s", 5.0, is_minimum=True).meets_target is False
    assert Measurement("ratio", 1.1, target=1.1).meets_target is True
    assert Measurement("ratio", 1.2, target=1.1).meets_target is False
    assert Measurement("seconds", 3.0, "s").meets_target is None


def test_lines_stand_in_a_table_under_the_machine() -> None:
    text = measurement_table(
        [Measurement("rate", 123456.7, "rows/s", 1e5, is_minimum=True), Measurement("ratio", 1.234)]
    )
    assert text.startswith(describe_machine())
    assert "| rate | 123,457 rows/s | ≥ 100,000 | yes |" in text
    assert "| ratio | 1.23 |  |  |" in text
    assert three_digits(0.01234) == "0.0123"


def test_the_slope_of_a_power_is_its_exponent() -> None:
    assert log_log_slope([1, 10, 100], [2.0, 2.0 * 10**1.5, 2.0 * 10**3]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="expected seconds of two sizes or more"):
        log_log_slope([1], [1.0])


def test_processes_tell_their_own_memory_and_failure() -> None:
    """Not that of this process, which is larger: half a GiB that it fills."""
    held = bytearray(os.urandom(1 << 20) * 1024)
    text, gib = run_process(
        [sys.executable, "-c", "a = bytearray(b'1') * (1 << 29); print('said')"]
    )
    assert text == "said" and 0.5 < gib < 0.6 and len(held) == 1 << 30
    with pytest.raises(ValueError, match="expected -c to end well, got 3"):
        run_process([sys.executable, "-c", "raise SystemExit(3)"])
